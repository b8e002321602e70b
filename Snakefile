"""metabench: meta-train, evaluate, tabulate, draw, report and track one study.

snakemake --cores 2                                        config/flux.yaml
snakemake --cores 2 --configfile config/smoke.yaml         another study
"""

from metabench.records.layout import CELL

if workflow.is_main_process:
    from metabench.workflow.snakefile import Workflow as Study
else:  # a job on another machine, which only needs paths
    from metabench.workflow.remote import RemoteJob as Study

# A default in addition to --configfile would leak its keys into that file's study.
if "study" not in config:

    configfile: "config/flux.yaml"


report: "workflow/report/workflow.rst"


study = Study.start(config, workflow)
files = study.layout


wildcard_constraints:
    algorithm="[a-z][a-z0-9_]*",
    cell="[A-Za-z0-9.+_-]+",
    group="[a-z][a-z0-9-]*",
    name="[a-z][a-z0-9-]*",
    seeds="[0-9]+-[0-9]+",


include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/literature.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"


# The default target: Snakemake does not count the rules of included files.
rule all:
    """Everything a study leaves behind."""
    input:
        study.records,
        study.made_by("track_cells", "track_study"),
        study.tables,
        files.provenance,
        study.figures,
        study.literature,
        files.report,


onstart:
    study.begin()


onsuccess:
    study.end()


onerror:
    study.explain()
