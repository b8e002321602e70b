rule train:
    """Meta-train one block of seeds of one cell as one tensor program."""
    input:
        study.inputs(),
    output:
        files.trained(CELL, "{seeds}"),
    log:
        files.log("train", CELL, "{seeds}"),
    benchmark:
        files.benchmark("train", CELL, "{seeds}")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=study.train_memory,
        runtime=study.train_minutes,
    params:
        study=files.study,
    shell:
        "metabench train --study {params.study} --cell {wildcards.algorithm}/{wildcards.cell}"
        " --seeds {wildcards.seeds} > {log} 2>&1"
