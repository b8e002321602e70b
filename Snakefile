"""metabench: meta-train, evaluate, tabulate, draw, report and track one study.

snakemake --cores 2                                        config/flux.yaml
snakemake --cores 2 --configfile config/smoke.yaml         another study
"""

from metabench.workflow.snakefile import Workflow

if (
    "study" not in config
):  # a default beside --configfile would leak its keys into that file's study

    configfile: "config/flux.yaml"


report: "workflow/report/workflow.rst"


study = Workflow.start(config, workflow)


wildcard_constraints:
    study="[a-z][a-z0-9-]*",
    algorithm="[a-z][a-z0-9_]*",
    cell="[0-9a-f]{8}",
    seeds="[0-9]+-[0-9]+",


include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/literature.smk"
include: "workflow/rules/track.smk"


rule all:
    """Everything a study leaves behind."""
    default_target: True
    input:
        study.records,
        study.tables,
        study.provenance,
        study.figures,
        study.literature,
        study.cells_tracked,
        study.tracked,


onstart:
    study.begin()


onerror:
    study.explain()
