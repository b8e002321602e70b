rule tables:
    """Aggregate the losses of all runs into tables with their statistics."""
    input:
        study.renew,
        study.records,
    output:
        [
            report(path, **study.table_entry(path))
            for path in study.tables
            if not path.endswith(".json")
        ],
        [path for path in study.tables if path.endswith(".json")],
        study.provenance,
    log:
        f"{study.root}/logs/tables.log",
    benchmark:
        f"{study.root}/benchmarks/tables.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=study.study_settings,
        root=study.root,
    shell:
        "metabench tables --study {params.settings:q} --root {params.root} 2>&1 | tee -i {log}"
