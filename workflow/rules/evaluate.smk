rule evaluate:
    """Adapt one block of trained initializations to the held-out tasks, under a group of protocols."""
    input:
        study.inputs(files.trained(CELL, "{seeds}")),
    output:
        files.evaluated(CELL, "{group}", "{seeds}"),
    log:
        files.log("evaluate", CELL, "{group}", "{seeds}"),
    benchmark:
        files.benchmark("evaluate", CELL, "{group}", "{seeds}")
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=study.evaluate_memory,
        runtime=study.evaluate_minutes,
    params:
        study=files.study,
    shell:
        "metabench evaluate --study {params.study} --cell {wildcards.algorithm}/{wildcards.cell}"
        " --group {wildcards.group} --seeds {wildcards.seeds} > {log} 2>&1"


rule baselines:
    """Evaluate the baselines without seeds, under a group of protocols."""
    input:
        study.inputs(),
    output:
        files.baselines("{group}"),
    log:
        files.log("baselines", "{group}"),
    benchmark:
        files.benchmark("baselines", "{group}")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=study.each_attempt(2000),
        runtime=study.each_attempt(60),
    params:
        study=files.study,
    shell:
        "metabench baselines --study {params.study} --group {wildcards.group} > {log} 2>&1"


rule predictions:
    """Measure predictions that were made elsewhere."""
    input:
        study.inputs(),
    output:
        files.predictions("{name}"),
    log:
        files.log("predictions", "{name}"),
    benchmark:
        files.benchmark("predictions", "{name}")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=study.each_attempt(4000),
        runtime=study.each_attempt(30),
    params:
        study=files.study,
    shell:
        "metabench predictions --study {params.study} --name {wildcards.name} > {log} 2>&1"
