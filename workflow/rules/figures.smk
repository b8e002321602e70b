rule figures:
    """Draw every figure from the tables alone."""
    input:
        study.renew,
        study.tables,
    output:
        [
            report(path, **study.figure_entry(path))
            for path in study.figures
            if path.endswith(".svg")
        ],
        [path for path in study.figures if not path.endswith(".svg")],
    log:
        f"{study.root}/logs/figures.log",
    benchmark:
        f"{study.root}/benchmarks/figures.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        tables=study.root / "tables",
        out=study.root / "figures",
    shell:
        "metabench figures --tables {params.tables} --out {params.out} 2>&1 | tee -i {log}"
