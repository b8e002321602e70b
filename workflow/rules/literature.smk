if study.literature:

    rule literature:
        """Compare the published numbers that this study covers with its own."""
        input:
            study.inputs(*study.tables),
        output:
            report(
                study.literature[:2],
                category="Published numbers",
                labels={"beside": "ours"},
                caption="../report/literature.rst",
            ),
            study.literature[2:],
        log:
            files.log("literature"),
        benchmark:
            files.benchmark("literature")
        localrule: True
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            study=files.study,
            out=files.literature,
        shell:
            "metabench literature --study {params.study} --out {params.out} > {log} 2>&1"
