# A rule for each batch of training jobs: what one of them mirrors has no wildcards in common.
for batch, jobs in study.batches.items():

    rule:
        name:
            f"track_{batch}"
        input:
            study.renew,
            study.records_of(jobs),
        output:
            study.markers_of(jobs),
        log:
            f"{study.root}/logs/track/{study.store}/{batch}.log",
        benchmark:
            f"{study.root}/benchmarks/track/{study.store}/{batch}.tsv"
        priority: 20
        localrule: True
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=1500,
            runtime=30,
            mlflow_writers=1,
        params:
            jobs=study.track_options(jobs),
            root=study.root,
            store=study.store,
        shell:
            "metabench track cells {params.jobs:q} --root {params.root} --store {params.store} 2>&1 | tee -i {log}"


rule track_study:
    """Mirror what belongs to the whole study, once all cells are mirrored, and say how to look at it."""
    input:
        study.renew,
        study.cells_tracked,
        study.tables,
        study.provenance,
        study.figures,
    output:
        study.tracked,
    log:
        f"{study.root}/logs/track/{study.store}/study.log",
    benchmark:
        f"{study.root}/benchmarks/track/{study.store}/study.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        mlflow_writers=1,
    params:
        settings=study.study_settings,
        root=study.root,
        store=study.store,
    shell:
        "metabench track study --study {params.settings:q} --root {params.root} --store {params.store}"
        " --out {output} 2>&1 | tee -i {log}"
