"""What the Snakefile asks: a study's files, and the parameters of each job from its wildcards."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from metabench import config as configs
from metabench import plans, tables
from metabench.config import ConfigError, StudyConfig
from metabench.plans import Cell
from metabench.provenance import canonical, code_digest
from metabench.records import Paths

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
        """The tables, and where they come from."""
        return [*(str(self.root / "tables" / name) for name in tables.NAMES), str(self.root / "provenance.json")]

    def study_settings(self, wildcards: Any) -> str:
        """Return the whole study."""
        return canonical(plans.study_settings(self.config))

    def tables_code(self, wildcards: Any) -> str:
        """Return the digest of the source that makes tables from records."""
        return code_digest("metabench.tables")

    def summary(self, cores: int) -> str:
        """Say what is about to run."""
        return plans.summary(self.config, cores)

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
