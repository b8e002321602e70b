rule evaluate:
    """Adapt one block of trained initializations to the held-out tasks, under every protocol."""
    input:
        study.renew,
        theta="results/{study}/train/{algorithm}/{cell}/{seeds}.safetensors",
    output:
        "results/{study}/evaluate/{algorithm}/{cell}/{seeds}.safetensors",
    log:
        "results/{study}/logs/evaluate/{algorithm}/{cell}/{seeds}.log",
    benchmark:
        "results/{study}/benchmarks/evaluate/{algorithm}/{cell}/{seeds}.tsv"
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        settings=study.evaluate_settings,
    shell:
        "metabench evaluate --settings {params.settings:q} --seeds {wildcards.seeds}"
        " --theta {input.theta} --out {output} 2>&1 | tee -i {log}"


rule baselines:
    """Evaluate the predictors that learn nothing."""
    input:
        study.renew,
    output:
        "results/{study}/baselines.safetensors",
    log:
        "results/{study}/logs/baselines.log",
    benchmark:
        "results/{study}/benchmarks/baselines.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        settings=study.baselines_settings,
    shell:
        "metabench baselines --settings {params.settings:q} --out {output} 2>&1 | tee -i {log}"
