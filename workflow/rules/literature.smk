if study.literature:

    rule literature:
        """Hold the published numbers that this study covers against its own."""
        input:
            study.renew,
            study.tables,
        output:
            report(
                study.literature[:2],
                category="Published numbers",
                labels={"beside": "ours"},
                caption="../report/literature.rst",
            ),
            study.literature[2:],
        log:
            f"{study.root}/logs/literature.log",
        benchmark:
            f"{study.root}/benchmarks/literature.tsv"
        localrule: True
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            settings=study.study_settings,
            studies=study.root.parent,
            out=study.root / "literature",
        shell:
            "metabench literature --study {params.settings:q} --studies {params.studies}"
            " --out {params.out} 2>&1 | tee -i {log}"
