"""metabench: meta-train, evaluate, tabulate, draw, report and track one study.

snakemake --cores 2                                        config/flux.yaml
snakemake --cores 2 --configfile config/smoke.yaml         another study
"""

from metabench.workflow import Workflow

if "study" not in config:  # a default beside --configfile would leak its keys into that file's study

    configfile: "config/flux.yaml"


report: "workflow/report/workflow.rst"


study = Workflow.start(config, workflow.configfiles)


include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/track.smk"


rule all:
    """Everything a study leaves behind."""
    default_target: True
    input:
        study.trained,
        study.evaluated,
        study.baselines,
        study.tables,
        study.provenance,
        study.figures,
        study.tracked,


onstart:
    study.announce(workflow.cores)
