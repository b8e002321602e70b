"""What the Snakefile asks: a study's files, and the parameters of each job from its wildcards."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, NoReturn, Self

from metabench.analysis import tables
from metabench.records import locks, manifests, records
from metabench.records.provenance import canonical
from metabench.records.records import Paths
from metabench.study import config as configs
from metabench.study import plans
from metabench.study.config import ConfigError, StudyConfig
from metabench.study.plans import Cell, TrainJob
from metabench.views import literature
from metabench.views.figures.names import figure_names, report_entry
from metabench.views.tracking import contents, store
from metabench.workflow import staleness as freshness
from metabench.workflow.progress import Job, StudyWatch

MARK = "metabench: "
"""How a line begins that tells a user what is wrong."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Workflow:
    """A checked study and the files of its jobs.

    Args:
        config: The study.
        snakemake: Snakemake's own object of the workflow.
        started: When its jobs began to run, in seconds since 1970.
        lock: The study's, held while its jobs run.
    """

    config: StudyConfig
    snakemake: Any
    started: float = 0.0
    lock: IO[str] | None = None

    @classmethod
    def start(cls, content: Mapping[str, Any], snakemake: Any) -> Self:
        """Check the study, and let its jobs use this interpreter's commands and one thread each.

        Args:
            content: What Snakemake merged from files and command line. The files are read again,
                since Snakemake keeps the last of duplicate keys silently.
            snakemake: Its object of the workflow.

        A study file with a mistake ends the program with one line for each and exit code 2.
        """
        os.environ["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        )
        os.environ.update(dict.fromkeys(THREADS, "1"))
        names = [str(name) for name in snakemake.configfiles]
        try:
            for name in names:
                configs.read(name)
            study = cls(configs.parse(content, ", ".join(names) or "config"), snakemake)
            plans.cells(study.config)
        except ConfigError as error:
            _refuse(str(error))
        study.outdated  # noqa: B018 (now: Snakemake reads the times of files as it begins)
        return study

    def begin(self) -> None:
        """Make sure that nobody else runs this study here, say what is about to run, and from then
        on how far it is.

        The lock ends with this process, however it ends; Snakemake's own would outlive a kill and
        is switched off in the profile.
        """
        path = self.root / ".lock"
        try:
            self.lock = locks.take(path)
        except OSError as error:
            _refuse(str(error))
        if self.lock is None:
            _refuse(
                f"the study {self.config.study} is being run in this folder by process {locks.holder(path)}"
            )
        self.started = time.time()
        cores = self.snakemake.cores
        print(plans.summary(self.config, cores), file=sys.stderr)
        StudyWatch(self.config.study, self._jobs(), cores).start()

    def renew(self, wildcards: Any) -> list[str]:
        """Have what is not what the study would make now made again, by an input function that
        names no file.

        Snakemake builds its graph from the targets, asking each rule for its input, and then
        decides what must run.
        """
        self.snakemake.dag.forcefiles.update(self.outdated)
        return []

    @cached_property
    def outdated(self) -> dict[str, str]:
        """The files that must be made again, each with the reason; said once."""
        found = freshness.outdated(self.config, self.root, self.store)
        if self.snakemake.is_main_process:
            freshness.order(self.config, self.root, self.store, found)
            if found:
                print(
                    f"{len(found)} files are made again: {next(iter(found.values()))}",
                    file=sys.stderr,
                )
        return found

    def explain(self) -> None:
        """Say once more, after everything else, what the failed jobs said."""
        said: dict[str, int] = {}
        for log in (self.root / "logs").rglob("*.log"):
            if log.stat().st_mtime >= self.started:
                for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                    if line.startswith(MARK):
                        said[line] = said.get(line, 0) + 1
        for line, jobs in sorted(said.items()):
            print(line if jobs == 1 else f"{line} ({jobs} jobs)", file=sys.stderr)
        print(
            f"{MARK}some jobs failed; what is finished is kept, and the same command goes on",
            file=sys.stderr,
        )

    @property
    def root(self) -> Path:
        """The folder of the study's results."""
        return Path("results") / self.config.study

    @property
    def records(self) -> list[str]:
        """The records of all training and evaluation jobs and of the baselines."""
        return [
            *self.records_of(list(plans.train_jobs(self.config))),
            str(Paths(self.root).baselines),
        ]

    @property
    def tables(self) -> list[str]:
        """The tables, and their manifest."""
        return [str(self.root / "tables" / name) for name in (*tables.NAMES, manifests.NAME)]

    @property
    def provenance(self) -> str:
        """Where the results come from."""
        return str(self.root / "provenance.json")

    @property
    def figures(self) -> list[str]:
        """The figures, each as SVG and as PNG, and their manifest."""
        names = [f"{stem}{suffix}" for stem in self.stems for suffix in (".svg", ".png")]
        return [str(self.root / "figures" / name) for name in (*names, manifests.NAME)]

    @cached_property
    def literature(self) -> list[str]:
        """The table and figure of the published numbers that the study covers, and their manifest;
        often none.
        """
        if not literature.covered(literature.load(), self.config).rows:
            return []
        names = (literature.NAME, "literature.svg", "literature.png", manifests.NAME)
        return [str(self.root / "literature" / name) for name in names]

    @property
    def stems(self) -> list[str]:
        """The names of the figures without suffix."""
        published = {
            cell.algorithm for cell in plans.cells(self.config) if cell.role == "published"
        }
        return figure_names(sorted(published), sorted(self.config.protocols))

    def figure_entry(self, path: str) -> dict[str, Any]:
        """Return where a figure stands in Snakemake's report; captions are named relative to the
        rules.
        """
        category, labels, caption = report_entry(Path(path).stem)
        return {"category": category, "labels": labels, "caption": f"../report/figures/{caption}"}

    def table_entry(self, path: str) -> dict[str, Any]:
        """Return where a table stands in Snakemake's report."""
        name = Path(path).stem
        return {
            "category": "Tables",
            "labels": {"table": name},
            "caption": f"../report/tables/{name}.rst",
        }

    @cached_property
    def store(self) -> str:
        """The name of the MLflow store to fill, which changes when the store does."""
        return store.store_name(self.root, self.config.study)

    @property
    def cells_tracked(self) -> list[str]:
        """The markers of the training jobs that are in the store."""
        return self.markers_of(list(plans.train_jobs(self.config)))

    @property
    def tracked(self) -> str:
        """The marker of the whole study in the store."""
        return str(store.study_marker(self.root, self.store))

    @property
    def batches(self) -> dict[str, list[TrainJob]]:
        """The training jobs that one tracking job mirrors, by its name."""
        return plans.batches(self.config)

    def records_of(self, jobs: list[TrainJob]) -> list[str]:
        """Return the records of training jobs."""
        paths = Paths(self.root)
        return [str(path) for job in jobs for path in (paths.trained(*job), paths.evaluated(*job))]

    def markers_of(self, jobs: list[TrainJob]) -> list[str]:
        """Return the markers of training jobs in the store."""
        return [str(store.marker(self.root, self.store, *job)) for job in jobs]

    def track_options(self, jobs: list[TrainJob]) -> list[str]:
        """Return what a tracking job is told of each of its training jobs, word by word."""
        words = []
        for (cell, block), marker in zip(jobs, self.markers_of(jobs), strict=True):
            settings = canonical(contents.cell_settings(self.config, cell))
            words += ["--settings", settings, "--seeds", block, "--out", marker]
        return words

    def study_settings(self, wildcards: Any) -> str:
        """Return the whole study."""
        return canonical(plans.study_settings(self.config))

    def _jobs(self) -> list[Job]:
        """Return the training and evaluation jobs with their expected seconds and what can be seen
        of their state.
        """
        paths, jobs = Paths(self.root), []
        for job in plans.train_jobs(self.config):
            cell, runs = job[0], len(plans.seeds_of(job[1]))
            trained = partial(records.trained_share, paths, self.config, *job)
            evaluated = partial(records.evaluated_share, paths, self.config, *job)
            jobs.append(Job(plans.expected_seconds(self.config, cell, runs), trained))
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

    def train_runtime(self, wildcards: Any) -> int:
        """Return the minutes a training job may take where a scheduler asks: ten times what is
        expected.
        """
        runs = len(plans.seeds_of(wildcards.seeds))
        return 10 + round(
            10 * plans.expected_seconds(self.config, self._cell(wildcards), runs) / 60
        )

    def _cell(self, wildcards: Any) -> Cell:
        return self._cells[wildcards.cell]

    @cached_property
    def _cells(self) -> dict[str, Cell]:
        return {cell.id: cell for cell in plans.cells(self.config)}


def _refuse(reason: str) -> NoReturn:
    print(f"{MARK}{reason}", file=sys.stderr)
    sys.exit(2)
