rule train:
    """Meta-train one block of seeds of one cell as one tensor program."""
    input:
        study.renew,
    output:
        "results/{study}/train/{algorithm}/{cell}/{seeds}.safetensors",
    log:
        "results/{study}/logs/train/{algorithm}/{cell}/{seeds}.log",
    benchmark:
        "results/{study}/benchmarks/train/{algorithm}/{cell}/{seeds}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=study.train_runtime,
    params:
        settings=study.train_settings,
        checkpoint="results/{study}/checkpoints/{algorithm}/{cell}/{seeds}.safetensors",
    shell:
        "metabench train --settings {params.settings:q} --seeds {wildcards.seeds}"
        " --checkpoint {params.checkpoint} --out {output} 2>&1 | tee -i {log}"
