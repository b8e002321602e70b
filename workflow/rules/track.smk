# One rule per batch of training jobs, because the files of a batch share no wildcards.
for batch in study.batches:

    rule:
        name:
            f"track_{batch}"
        input:
            study.inputs(*study.records_of(batch)),
        output:
            study.markers_of(batch),
        log:
            files.log("track", study.store, batch),
        benchmark:
            files.benchmark("track", study.store, batch)
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
            study=files.study,
            batch=batch,
            store=study.store,
        shell:
            "metabench track cells --study {params.study} --batch {params.batch}"
            " --store {params.store} > {log} 2>&1"


rule track_study:
    """Mirror what belongs to the whole study, once all cells are mirrored."""
    input:
        study.inputs(
            *study.made_by("track_cells"),
            *study.tables,
            files.provenance,
            *study.figures,
            files.report,
        ),
    output:
        study.made_by("track_study"),
    log:
        files.log("track", study.store, "study"),
    benchmark:
        files.benchmark("track", study.store, "study")
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        mlflow_writers=1,
    params:
        study=files.study,
        store=study.store,
    shell:
        "metabench track study --study {params.study} --store {params.store} > {log} 2>&1"
