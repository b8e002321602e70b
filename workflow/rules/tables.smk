rule tables:
    """Aggregate the losses of all runs into tables with their statistics."""
    input:
        study.inputs(*study.records),
    output:
        [report(path, **entry) for path, entry in study.table_entries.items()],
        [path for path in study.tables if path not in study.table_entries],
        files.provenance,
    log:
        files.log("tables"),
    benchmark:
        files.benchmark("tables")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=study.tables_memory,
        runtime=study.tables_minutes,
    params:
        study=files.study,
    shell:
        "metabench tables --study {params.study} > {log} 2>&1"
