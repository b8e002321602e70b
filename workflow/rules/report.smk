rule report:
    """Write what came out of the study as one HTML page."""
    input:
        study.inputs(*study.tables, files.provenance, *study.literature),
    output:
        files.report,
    log:
        files.log("report"),
    benchmark:
        files.benchmark("report")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=study.each_attempt(4000),
        runtime=study.each_attempt(30),
    params:
        study=files.study,
    shell:
        "metabench report --study {params.study} > {log} 2>&1"
