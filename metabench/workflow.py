"""What the Snakefile asks: a study's files, and the parameters of each job from its wildcards."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from os.path import exists
from pathlib import Path
from typing import Any, Self

from metabench import config as configs
from metabench import plans, tables
from metabench.config import ConfigError, StudyConfig
from metabench.figures.names import figure_names, report_entry
from metabench.plans import Cell
from metabench.progress import Job, StudyWatch
from metabench.provenance import canonical, code_digest
from metabench.records import Paths, trained_share
from metabench.tracking import contents, store

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Workflow:
    """A checked study and the files of its jobs."""

    config: StudyConfig

    @classmethod
    def start(cls, content: Mapping[str, Any], files: Iterable[str]) -> Self:
        """Check the study, and let its jobs use this interpreter's commands and one thread each.

        Args:
            content: What Snakemake merged from files and command line.
            files: Those files, read again since Snakemake keeps the last of duplicate keys silently.

        A study file with a mistake ends the program with one line for each and exit code 2.
        """
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        os.environ.update(dict.fromkeys(THREADS, "1"))
        names = [str(name) for name in files]
        try:
            for name in names:
                configs.read(name)
            study = cls(configs.parse(content, ", ".join(names) or "config"))
            plans.cells(study.config)
        except ConfigError as error:
            print(f"metabench: {error}", file=sys.stderr)
            sys.exit(2)
        return study

    @property
    def root(self) -> Path:
        """The folder of the study's results."""
        return Path("results") / self.config.study

    @property
    def trained(self) -> list[str]:
        """The records of all training jobs."""
        return [str(Paths(self.root).trained(*job)) for job in plans.train_jobs(self.config)]

    @property
    def evaluated(self) -> list[str]:
        """The records of all evaluation jobs."""
        return [str(Paths(self.root).evaluated(*job)) for job in plans.train_jobs(self.config)]

    @property
    def baselines(self) -> str:
        """The record of the baselines."""
        return str(Paths(self.root).baselines)

    @property
    def tables(self) -> list[str]:
        """The tables."""
        return [str(self.root / "tables" / name) for name in tables.NAMES]

    @property
    def provenance(self) -> str:
        """Where the results come from."""
        return str(self.root / "provenance.json")

    @property
    def figures(self) -> list[str]:
        """The figures, each as SVG and as PNG."""
        return [str(self.root / "figures" / f"{stem}{suffix}") for stem in self.stems for suffix in (".svg", ".png")]

    @property
    def stems(self) -> list[str]:
        """The names of the figures without suffix."""
        published = {cell.algorithm for cell in plans.cells(self.config) if cell.role == "published"}
        return figure_names(sorted(published), sorted(self.config.protocols))

    def figure_entry(self, path: str) -> dict[str, Any]:
        """Return where a figure stands in Snakemake's report; captions are named relative to the rules."""
        category, labels, caption = report_entry(Path(path).stem)
        return {"category": category, "labels": labels, "caption": f"../report/figures/{caption}"}

    def table_entry(self, path: str) -> dict[str, Any]:
        """Return where a table stands in Snakemake's report."""
        name = Path(path).stem
        return {"category": "Tables", "labels": {"table": name}, "caption": f"../report/tables/{name}.rst"}

    @cached_property
    def store(self) -> str:
        """The name of the MLflow store to fill, which changes when the store does."""
        return store.store_name(self.root, self.config.study)

    @property
    def cells_tracked(self) -> list[str]:
        """The markers of the training jobs that are in the store."""
        return [str(store.marker(self.root, self.store, *job)) for job in plans.train_jobs(self.config)]

    @property
    def tracked(self) -> str:
        """The marker of the whole study in the store."""
        return str(store.study_marker(self.root, self.store))

    def track_settings(self, wildcards: Any) -> str:
        """Return what the runs of a cell show in MLflow."""
        return canonical(contents.cell_settings(self.config, self._cell(wildcards)))

    def track_code(self, wildcards: Any) -> str:
        """Return the digest of the source that writes into MLflow."""
        return code_digest("metabench.tracking.mirror")

    def study_settings(self, wildcards: Any) -> str:
        """Return the whole study."""
        return canonical(plans.study_settings(self.config))

    def tables_code(self, wildcards: Any) -> str:
        """Return the digest of the source that makes tables from records."""
        return code_digest("metabench.tables")

    def figures_code(self, wildcards: Any) -> str:
        """Return the digest of the source that draws figures from tables."""
        return code_digest("metabench.figures", "metabench.figures.gallery")

    def announce(self, cores: int) -> None:
        """Say what is about to run, and from then on how far it is."""
        print(plans.summary(self.config, cores), file=sys.stderr)
        StudyWatch(self.config.study, self._jobs(), cores).start()

    def _jobs(self) -> list[Job]:
        """Return the training and evaluation jobs with their expected seconds and what can be seen of their state."""
        paths, jobs = Paths(self.root), []
        for cell, block in plans.train_jobs(self.config):
            runs, record, checkpoint = (
                len(plans.seeds_of(block)),
                paths.trained(cell, block),
                paths.checkpoint(cell, block),
            )
            trained = partial(trained_share, record, checkpoint, cell.meta_iterations)
            evaluated = partial(exists, paths.evaluated(cell, block))
            jobs.append(Job(plans.expected_seconds(cell, runs), trained))
            jobs.append(Job(plans.expected_evaluation_seconds(self.config, cell, runs), evaluated))
        return jobs

    def train_settings(self, wildcards: Any) -> str:
        """Return a training job's settings."""
        return canonical(plans.train_settings(self.config, self._cell(wildcards)))

    def evaluate_settings(self, wildcards: Any) -> str:
        """Return an evaluation job's settings."""
        return canonical(plans.evaluate_settings(self.config, self._cell(wildcards)))

    def baselines_settings(self, wildcards: Any) -> str:
        """Return the baselines' settings."""
        return canonical(plans.baseline_settings(self.config))

    def train_code(self, wildcards: Any) -> str:
        """Return the digest of the source that trains this cell."""
        return plans.train_code(wildcards.algorithm)

    def evaluate_code(self, wildcards: Any) -> str:
        """Return the digest of the source that evaluates."""
        return plans.evaluate_code()

    def baselines_code(self, wildcards: Any) -> str:
        """Return the digest of the baselines' source."""
        return plans.baselines_code()

    def train_runtime(self, wildcards: Any) -> int:
        """Return the minutes a training job may take where a scheduler asks: ten times what is expected."""
        runs = len(plans.seeds_of(wildcards.seeds))
        return 10 + round(10 * plans.expected_seconds(self._cell(wildcards), runs) / 60)

    def _cell(self, wildcards: Any) -> Cell:
        return next(cell for cell in plans.cells(self.config) if cell.id == wildcards.cell)
