"""Measure what a job on another machine spends on reading our Snakefile.

python benchmarks/parsing.py --out results/benchmarks                    part of `make growth`

Snakemake starts itself again in each such job and reads the Snakefile again. It is started as a
cluster starts it, in turns with our Snakefile and with one of a single rule, without running the
job's command. A row of the table has the processor seconds with one of the two.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
from whole import ROOT, SMALL, command, write_study

from metabench.records.layout import Layout
from metabench.workflow.progress import Progress

OURS, ONE_RULE = "ours", "one rule"
SNAKEFILES = {ONE_RULE: Path("Snakefile"), OURS: ROOT / "Snakefile"}
JOBS = {ONE_RULE: "train:", OURS: "train:algorithm=random,cell=untrained,seeds=0-1"}
REPEATS = 10


def seconds(folder: Path, name: str) -> float:
    """Return the processor seconds of Snakemake in a job on another machine."""
    line = ["--snakefile", str(SNAKEFILES[name]), "--configfile", "study.yaml", "--cores", "all"]
    line += ["--workflow-profile", str(ROOT / "profiles" / "default"), "--mode", "remote"]
    line += ["--target-jobs", JOBS[name], "--allowed-rules", "train", "--force", "--no-hooks"]
    return command(folder, "snakemake", *line, "--nolock", "--dry-run")["processor_seconds"]


def measure(folder: Path) -> pd.DataFrame:
    """Return the median, least and most processor seconds with each Snakefile."""
    write_study(SMALL, folder)
    study = Layout(folder / "results" / "whole").study
    study.parent.mkdir(parents=True)
    study.touch()  # a job waits for it and reads it in its command only
    (folder / SNAKEFILES[ONE_RULE]).write_text(
        'rule train:\n    output: "one"\n    shell: "touch one"\n'
    )
    found: dict[str, list[float]] = {name: [] for name in SNAKEFILES}
    with Progress("Snakemake in jobs", 1 + REPEATS) as progress:
        for turn in range(1 + REPEATS):
            for name, measured in found.items():
                took = seconds(folder, name)
                # The first leaves byte code of all that is imported.
                measured += [took] if turn else []
            progress.advance()
    table = pd.DataFrame(found)
    rows = {"processor_seconds": table.median(), "least": table.min(), "most": table.max()}
    return pd.DataFrame(rows).rename_axis("snakefile").reset_index()


def sentence(rows: pd.DataFrame) -> str:
    """Return the table in words, as the page on clusters has it."""
    found = rows.set_index("snakefile")["processor_seconds"]
    return (
        f"{found[OURS] - found[ONE_RULE]:.2f} seconds of processor time: {found[ONE_RULE]:.2f} for "
        f"Snakemake with a Snakefile of one rule, {found[OURS]:.2f} with ours"
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="metabench-parsing-") as folder:
        rows = measure(Path(folder))
    rows.to_csv(arguments.out / "parsing.csv", index=False, float_format="%.4g")
    print(sentence(rows))


if __name__ == "__main__":
    main()
