rule track_cell:
    """Mirror one block of a cell's seeds into MLflow, as soon as it is evaluated."""
    input:
        study.renew,
        theta="results/{study}/train/{algorithm}/{cell}/{seeds}.safetensors",
        losses="results/{study}/evaluate/{algorithm}/{cell}/{seeds}.safetensors",
    output:
        "results/{study}/track/{store}/{algorithm}/{cell}/{seeds}.json",
    log:
        "results/{study}/logs/track/{store}/{algorithm}/{cell}/{seeds}.log",
    benchmark:
        "results/{study}/benchmarks/track/{store}/{algorithm}/{cell}/{seeds}.tsv"
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
        settings=study.track_settings,
    shell:
        "metabench track cell --settings {params.settings:q} --seeds {wildcards.seeds}"
        " --root results/{wildcards.study} --store {wildcards.store} --out {output} 2>&1 | tee -i {log}"


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
