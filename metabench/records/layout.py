"""The paths of a study's files below its folder `results/STUDY`, each defined once.

Parts of a path may be wildcards of Snakemake: `layout.trained("{algorithm}/{cell}", "{seeds}")`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RESULTS = Path("results")
"""The folder of all studies, relative to where a study is run."""

RECORD = ".safetensors"

CELL = "{algorithm}/{cell}"
"""The wildcards of a cell in the paths of Snakemake's rules."""


@dataclass(frozen=True)
class Layout:
    """The files of a study.

    Args:
        root: Its folder, for instance ``results/flux``.
        trained_in: Name of the study next to it whose training records it uses; its own if not
            given.
    """

    root: Path
    trained_in: str | None = None

    @property
    def training(self) -> Path:
        """The folder of the study that trains."""
        return self.root.with_name(self.trained_in) if self.trained_in else self.root

    @property
    def study(self) -> Path:
        """The study as it is run: its file's content in full, and the engine."""
        return self.root / "study.json"

    @property
    def lock(self) -> Path:
        """The lock of the process that runs the study."""
        return self.root / ".lock"

    def checkpoint(self, cell: str, seeds: str) -> Path:
        """Return the checkpoint of a training job."""
        return self.training / "checkpoints" / cell / f"{seeds}{RECORD}"

    def trained(self, cell: str, seeds: str) -> Path:
        """Return the record of a training job."""
        return self.training / "train" / cell / f"{seeds}{RECORD}"

    def evaluated(self, cell: str, group: str, seeds: str) -> Path:
        """Return the record of an evaluation job."""
        return self.root / "evaluate" / cell / group / f"{seeds}{RECORD}"

    def baselines(self, group: str) -> Path:
        """Return the record of the baselines under a group of protocols."""
        return self.root / "baselines" / f"{group}{RECORD}"

    def predictions(self, name: str) -> Path:
        """Return the record of predictions that were made elsewhere."""
        return self.root / "predictions" / f"{name}{RECORD}"

    @property
    def tables(self) -> Path:
        """The folder of the tables."""
        return self.root / "tables"

    @property
    def provenance(self) -> Path:
        """The provenance of the results: machine, inputs and engine."""
        return self.root / "provenance.json"

    @property
    def report(self) -> Path:
        """The HTML report of the study."""
        return self.root / "report.html"

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.root / "figures"

    def caption(self, kind: str, name: str) -> Path:
        """Return the file from which Snakemake's report reads a caption.

        It is absolute, because Snakemake looks for relative paths next to the rules.
        """
        return (self.root / "captions" / kind / f"{name}.rst").absolute()

    @property
    def literature(self) -> Path:
        """The folder of the published numbers that the study covers."""
        return self.root / "literature"

    def marker(self, store: str, cell: str, seeds: str) -> Path:
        """Return the marker that a block of a cell's seeds is in an MLflow store."""
        return self.root / "track" / store / cell / f"{seeds}.json"

    def study_marker(self, store: str) -> Path:
        """Return the marker that the whole study is in an MLflow store."""
        return self.root / "track" / store / "study.json"

    def log(self, *parts: str) -> Path:
        """Return the log of a job."""
        return self.root / "logs" / ("/".join(parts) + ".log")

    def benchmark(self, *parts: str) -> Path:
        """Return the file in which Snakemake records the cost of a job."""
        return self.root / "benchmarks" / ("/".join(parts) + ".tsv")
