rule figures:
    """Draw every figure from the tables alone."""
    input:
        study.inputs(*study.tables),
    output:
        [report(path, **entry) for path, entry in study.figure_entries.items()],
        [path for path in study.figures if path not in study.figure_entries],
    log:
        files.log("figures"),
    benchmark:
        files.benchmark("figures")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=study.each_attempt(2000),
        runtime=study.each_attempt(30),
    params:
        tables=files.tables,
        out=files.figures,
    shell:
        "metabench figures --tables {params.tables} --out {params.out} > {log} 2>&1"
