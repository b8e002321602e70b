"""Support for the Snakefile: the files of a study's jobs, and what must be rebuilt."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from math import ceil
from os.path import commonpath
from pathlib import Path
from typing import Any, ClassVar, Self

from metabench.analysis import tables
from metabench.learning.engine import EngineError
from metabench.records import locks, manifests
from metabench.records.artifacts import ArtifactError, write_text
from metabench.records.layout import Layout
from metabench.records.running import Running
from metabench.study import config as configs
from metabench.study.cells import Cell
from metabench.study.config import ConfigError
from metabench.study.jobs import Study, TrainJob
from metabench.views import figures
from metabench.views.drawing import cell_grids
from metabench.views.drawing.reading import BUDGETED, Fields, crowded
from metabench.views.figures import Picture
from metabench.views.tracking import store
from metabench.workflow import commands, estimate, forking, modules, outcome, staleness
from metabench.workflow.artefacts import Artefact, artefacts, batches, records_of
from metabench.workflow.commands import INTERRUPTED, MARK, refuse
from metabench.workflow.progress import Job, StudyWatch, clock
from metabench.workflow.terminal import TARGET, Terminal, erase_profile, stage_of

COMPUTING = {"train", "evaluate", "baselines", "predictions", "tables"}
"""The rules whose jobs import torch."""


@dataclass
class Workflow:
    """A checked study and the files of its jobs.

    Args:
        running: The study as it is run.
        snakemake: Snakemake's workflow object.
        started: Start time of its jobs, in seconds since 1970.
        lock: The study's lock, held while its jobs run.
        prepared: Snakemake's graph, once it knows what is stale.
        forks: The process that its jobs fork from, while they run on this machine.
        is_module: Whether the Snakefile is a module of another workflow.
        rule_name: Returns the name of one of its rules in that workflow.
        terminal: Display of its jobs, if a user is watching.
    """

    running: Running
    snakemake: Any
    started: float = 0.0
    lock: ExitStack | None = field(default=None, repr=False)
    prepared: Any = None
    forks: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    is_module: bool = False
    rule_name: Callable[[str], str] = field(default=str, repr=False)
    terminal: Terminal | None = field(default=None, repr=False)

    begun: ClassVar[set[Path]] = set()
    """Folders of the studies that this process runs."""

    @classmethod
    def start(cls, content: Mapping[str, Any], snakemake: Any) -> Self:
        """Check the study, and set up its jobs with this interpreter's commands and one thread.

        A study file with a mistake ends the program with one line for each and exit code 2.

        Args:
            content: The configuration that Snakemake merged from files and command line. The files
                are reread, because Snakemake silently keeps the last of duplicate keys.
            snakemake: Its workflow object.
        """
        commands.set_up(snakemake)
        is_module = modules.is_module(snakemake)
        # The files of another workflow are not study files.
        names = [] if is_module else [str(name) for name in snakemake.configfiles]
        try:
            for name in names:
                configs.read(name)
            parsed = configs.parse(content, ", ".join(names) or "config")
            running = Running.start(Study(parsed).check(), modules.results(snakemake))
            found = cls(running, snakemake, is_module=is_module)
            found.running.require_predictions()
        except (ConfigError, EngineError, ArtifactError) as error:
            refuse(str(error))
        found.rule_name = snakemake.modifier.modify_rulename
        if _reports():
            found.begin_report()
            return found
        how = snakemake.output_settings
        watched = not (is_module or how.verbose or how.dryrun or how.quiet)
        if watched:
            erase_profile()
        found.announce()
        if watched:
            found.take_over_terminal()
        return found

    def take_over_terminal(self) -> None:
        """Show the study's jobs in place of Snakemake's listing of their files and reasons."""
        from snakemake.logging import logger

        titles = {str(artefact.path): artefact.title for artefact in self.artefacts}
        self.terminal = Terminal(self.name, titles, self._nothing)
        self.terminal.take_over(logger)

    def announce(self) -> None:
        """Print how many files are stale, and the reason for the first."""
        if self.outdated:
            reason = next(iter(self.outdated.values()))
            print(f"{len(self.outdated)} stale files to rebuild: {reason}", file=sys.stderr)

    def begin_report(self) -> None:
        """End the program if a report would show stale or missing files."""
        shown = [a.path for a in self.artefacts if not a.job.startswith(("track", "report"))]
        reasons = [self.outdated[path] for path in shown if path in self.outdated]
        reasons += [f"{path} is not there" for path in shown if not path.exists()]
        if reasons:
            names = [str(store.here(Path(name))) for name in self.snakemake.configfiles]
            line = shlex.join(
                [store.program("snakemake"), "--cores", "all", "--configfile", *names]
            )
            refuse(f"study {self.name} is not up to date: {reasons[0]}; run it first: {line}")
        try:
            self._write_captions()
        except OSError as error:
            refuse(str(error))

    def begin(self) -> None:
        """Take the study's lock, write the study for its jobs, and watch the progress.

        The lock is released when this process ends, for whatever reason. Snakemake's own lock would
        outlive a kill and is switched off in the profile.
        """
        # Snakemake reads a module again for each of its `use rule` statements.
        if self.layout.root in self.begun:
            return
        try:
            self.lock = locks.take(self.layout.lock)
            if self.lock is None:
                holder = locks.holder(self.layout.lock)
                refuse(f"the study {self.name} is being run in this folder by process {holder}")
            self.begun.add(self.layout.root)
            self.running.write()
            self._write_captions()
        except OSError as error:
            refuse(str(error))
        self.started = time.time()
        computing = set(map(self.rule_name, COMPUTING))
        if self.snakemake.local_exec and computing & self._needed().keys():
            self.forks = forking.start()
        made = {str(path) for job in self.snakemake.dag.needrun_jobs() for path in job.output}
        jobs = {
            str(artefact.path): Job(artefact.seconds, artefact.share)
            for artefact in self.artefacts
            if artefact.job in ("train", "evaluate") and str(artefact.path) in made
        }
        watch = StudyWatch(jobs, max(1, min(len(jobs), self._at_once())))
        print(f"study {self.name}: {self.running.study.config.source}", file=sys.stderr)
        print(self.summary(watch.left), file=sys.stderr)
        if self.terminal is not None:
            known = estimate.SHORT | {"tables": estimate.tables(self.running)}
            self.terminal.begin(self._needed(), watch, known)

    def summary(self, left: float) -> str:
        """Return what will run, given the expected seconds of training and evaluation."""
        stage = {str(artefact.path): stage_of(artefact.job) for artefact in self.artefacts}
        stages = Counter(
            found
            for job in self.snakemake.dag.needrun_jobs()
            for found in {stage[path] for path in job.output if path in stage}
        )
        seconds = left * estimate.slowness(self.running.engine)
        cores = max(1, min(stages.total(), self._at_once()))
        return estimate.summary(self.running, stages, seconds, cores)

    def _nothing(self) -> str:
        return outcome.line(self.running, self.outdated)

    def end(self) -> None:
        """Print the study's findings and result paths, once all its jobs have succeeded."""
        if self.terminal is not None:
            self.terminal.end()
            took = clock(time.time() - self.started)
            print(outcome.text(self.running, self.store, took), file=sys.stderr)

    def _needed(self) -> Counter[str]:
        """Return how many jobs of each rule will run."""
        named = Counter(job.rule.name for job in self.snakemake.dag.needrun_jobs())
        del named[TARGET]
        return named

    def _at_once(self) -> int:
        """Return how many jobs run at a time: on the cores of this machine, or on a cluster."""
        local = self.snakemake.local_exec
        return int(self.snakemake.cores if local else self.snakemake.nodes)

    def _write_captions(self) -> None:
        """Write the captions for Snakemake's report, which only accepts files."""
        for key, caption in {one.family.key: one.caption for one in self.pictures}.items():
            write_text(self.layout.caption("figures", key), caption)
        for table in tables.declared():
            write_text(self.layout.caption("tables", Path(table.name).stem), table.caption)

    def inputs(self, *paths: Path) -> Callable[[Any], list[str]]:
        """Return the input function of a rule that reads these files.

        File times must not matter, so inputs are marked as ancient. Inputs that are rebuilt are
        not: Snakemake rebuilds nothing after ancient inputs, not even missing files.
        """
        from snakemake.io import ancient

        def files(wildcards: Any) -> list[str]:
            self._prepare(self.snakemake.dag)
            rebuilt = self.outdated.keys() | self.forced
            names = [str(path).format(**dict(wildcards.items())) for path in paths]
            return [name if Path(name) in rebuilt else ancient(name) for name in names]

        return files

    def _prepare(self, dag: Any) -> None:
        """Reject targets that are not files of the study, and have stale files rebuilt.

        Snakemake builds its graph by asking each rule for its inputs, and decides afterwards what
        must run. Only then does it know the targets.
        """
        if dag is not self.prepared:
            self.prepared = dag
            if self.snakemake.dryrun:
                # A dry run writes nothing. Snakemake would save an inventory of files for later
                # runs, which fails in a folder that belongs to somebody else.
                self.snakemake.persistence.save_iocache = lambda: None
            for target in self._targets():
                self._require_known(target)
            if self.is_module:
                modules.add_hooks(self.snakemake, self.begin, self.explain)
            dag.forcefiles.update(map(str, self.outdated))

    def _targets(self) -> set[str]:
        """Return the files and rules that the command line names."""
        settings, scheduling = self.snakemake.dag_settings, self.snakemake.scheduling_settings
        named = {*settings.targets, *settings.forcerun, *settings.until, *settings.omit_from}
        return named if scheduling is None else named | {*scheduling.prioritytargets}

    def _require_known(self, target: str) -> None:
        """End the program if a target matches a rule but is not a file of the study.

        For instance the cell of another algorithm, or seeds that are not a block of the study.
        """
        if Path(target).is_relative_to(self.layout.root) and target not in self.known:
            refuse(
                f"{target} is not a file of study {self.name}; the closest is {self._near(target)}"
            )

    def _near(self, target: str) -> str:
        """Return the file of the study that a wrong target may have meant."""
        shared = {name: len(commonpath([name, target])) for name in sorted(self.known)}
        deepest = [name for name, depth in shared.items() if depth == max(shared.values())]
        return get_close_matches(target, deepest, n=1, cutoff=0)[0]

    @cached_property
    def known(self) -> set[str]:
        """The files that the rules produce."""
        made = [artefact.path for artefact in self.artefacts]
        more = [*self.tables, self.layout.provenance, *self.figures, *self.literature]
        more.append(self.layout.report)
        return {str(path) for path in [*made, *more]}

    def explain(self) -> None:
        """Repeat the messages of the failed jobs after everything else."""
        if not self.started:  # a module that was read again
            return
        if self.terminal is not None:
            self.terminal.end()
        counts = Counter[str]()
        for log in (self.layout.root / "logs").rglob("*.log"):
            if log.stat().st_mtime >= self.started:
                for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                    if line.startswith(MARK):
                        counts[line] += 1
        stopped = [line for line in counts if line.startswith(MARK + INTERRUPTED)]
        for line, jobs in sorted(counts.items()):
            if line not in stopped:
                print(line if jobs == 1 else f"{line} ({jobs} jobs)", file=sys.stderr)
        interrupted = stopped or (self.terminal is not None and self.terminal.interrupted)
        failed = "some jobs failed; finished work is kept, and the same command resumes"
        print(f"{MARK}{INTERRUPTED if interrupted else failed}", file=sys.stderr)

    @cached_property
    def artefacts(self) -> list[Artefact]:
        """Every artefact of the study."""
        return artefacts(self.running, self.store)

    @cached_property
    def outdated(self) -> dict[Path, str]:
        """The files that must be rebuilt, each with the reason."""
        return staleness.outdated(self.artefacts)

    @cached_property
    def forced(self) -> set[Path]:
        """The artefacts that `--forcerun` names by file or rule, and everything built from them."""
        wanted = set(map(str, self.snakemake.dag_settings.forcerun))
        wanted |= {re.sub("_[0-9]+$", "", name) for name in wanted}  # the rules of batches
        found: set[Path] = set()
        for artefact in self.artefacts:
            made = {self.rule_name(artefact.job), str(artefact.path)}
            if artefact.path.name == manifests.NAME:  # it represents the files of its folder
                made |= {name for name in wanted if Path(name).parent == artefact.path.parent}
            if wanted & made or found & set(artefact.made_of):
                found.add(artefact.path)
        return found

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.running.study.name

    @property
    def layout(self) -> Layout:
        """The files of the study."""
        return self.running.layout

    @cached_property
    def store(self) -> str:
        """The name of the MLflow store to fill, which changes when the store does."""
        return store.store_name(self.layout.root, self.name)

    def made_by(self, *jobs: str) -> list[Path]:
        """Return the artefacts that some kinds of jobs produce."""
        return [artefact.path for artefact in self.artefacts if artefact.job in jobs]

    @property
    def records(self) -> list[Path]:
        """The records of all training and evaluation jobs, of the baselines and of predictions."""
        return self.made_by("train", "evaluate", "baselines", "predictions")

    @property
    def tables(self) -> list[Path]:
        """The tables and their manifest."""
        names = tables.names(self.running.study.config)
        return [self.layout.tables / name for name in (*names, manifests.NAME)]

    @property
    def table_entries(self) -> dict[Path, dict[str, Any]]:
        """Where each table is in Snakemake's report, by its file."""
        return {
            self.layout.tables / table.name: {
                "category": "Tables",
                "labels": {"table": Path(table.name).stem},
                "caption": str(self.layout.caption("tables", Path(table.name).stem)),
            }
            for table in tables.of_study(self.running.study.config)
        }

    @property
    def figures(self) -> list[Path]:
        """The figures, each as SVG and as PNG, and their manifest."""
        names = [f"{p.stem}{suffix}" for p in self.pictures for suffix in (".svg", ".png")]
        return [self.layout.figures / name for name in (*names, manifests.NAME)]

    @cached_property
    def pictures(self) -> list[Picture]:
        """The subjects of the figures: each group of protocols has some."""
        study = self.running.study
        protocols = sorted(study.single_protocols)
        fields = Fields(
            protocol=protocols,
            grid=study.grids,
            noisy=sorted(study.noisy_protocols),
            distant=sorted(study.distant_protocols),
            recurring=protocols if study.recurring else [],
            gridded=protocols if cell_grids.form_grids(cell_grids.planned(study.cells)) else [],
            curved=protocols if study.config.tasks.features == 1 else [],
            budgeted=any(cell.role == BUDGETED for cell in study.cells),
            crowded=crowded({cell.algorithm for cell in study.cells}),
        )
        return figures.of_study(fields)

    @property
    def figure_entries(self) -> dict[Path, dict[str, Any]]:
        """Where each figure is in Snakemake's report, by its file there."""
        return {
            self.layout.figures / f"{picture.stem}.svg": {
                "category": picture.family.category,
                "labels": picture.labels,
                "caption": str(self.layout.caption("figures", picture.family.key)),
            }
            for picture in self.pictures
        }

    @cached_property
    def literature(self) -> list[Path]:
        """The table and figure of the published numbers that the study covers; often none."""
        return [
            path.with_name(name)
            for path in self.made_by("literature")
            for name in ("literature.csv", "literature.svg", "literature.png", manifests.NAME)
        ]

    @cached_property
    def batches(self) -> dict[str, list[TrainJob]]:
        """The training jobs of each tracking job, by the batch's name."""
        return batches(self.running)

    def records_of(self, batch: str) -> list[Path]:
        """Return the records of a batch of training jobs."""
        return records_of(self.running, self.batches[batch])

    def markers_of(self, batch: str) -> list[Path]:
        """Return the markers of a batch of training jobs in the store."""
        jobs = self.batches[batch]
        return [self.layout.marker(self.store, cell.path, seeds) for cell, seeds in jobs]

    def train_memory(self, wildcards: Any, attempt: int) -> int:
        """Return the megabytes that a training job requests from a scheduler."""
        cell = self._cell(wildcards)
        needs = estimate.training_megabytes(self.running, cell, wildcards.seeds)
        return attempt * _requested_megabytes(needs)

    def evaluate_memory(self, wildcards: Any, attempt: int) -> int:
        """Return the megabytes that an evaluation requests from a scheduler."""
        cell, group = self._cell(wildcards), wildcards.group
        needs = estimate.evaluation_megabytes(self.running, cell, group, wildcards.seeds)
        return attempt * _requested_megabytes(needs)

    def tables_memory(self, wildcards: Any, attempt: int) -> int:
        """Return the megabytes that the tables request from a scheduler."""
        return attempt * _requested_megabytes(estimate.tables_megabytes(self.running))

    def train_minutes(self, wildcards: Any, attempt: int) -> int:
        """Return the time limit of a training job in minutes."""
        cell = self._cell(wildcards)
        expected = estimate.training(self.running, cell, wildcards.seeds)
        return attempt * _requested_minutes(expected)

    def evaluate_minutes(self, wildcards: Any, attempt: int) -> int:
        """Return the time limit of an evaluation in minutes."""
        cell, group = self._cell(wildcards), wildcards.group
        expected = estimate.evaluation(self.running, cell, group, wildcards.seeds)
        return attempt * _requested_minutes(expected)

    def tables_minutes(self, wildcards: Any, attempt: int) -> int:
        """Return the time limit of the tables in minutes."""
        return attempt * _requested_minutes(estimate.tables(self.running))

    def each_attempt(self, amount: int) -> Callable[[Any, int], int]:
        """Return the request of a rule whose jobs need the same in every study.

        Like all requests it grows with each attempt, since a job that a scheduler ended for its
        time or memory needs more of it.
        """

        def requested(wildcards: Any, attempt: int) -> int:
            return attempt * amount

        return requested

    def _cell(self, wildcards: Any) -> Cell:
        return self.running.study.cell(f"{wildcards.algorithm}/{wildcards.cell}")


def _reports() -> bool:
    """Return whether Snakemake was started only to write a report.

    Only its command line tells, because Snakemake reads the Snakefile first.
    """
    words = {word.partition("=")[0] for word in sys.argv}
    return bool(words & {"--report", "--reporter"}) and "--report-after-run" not in words


def _requested_megabytes(megabytes: float) -> int:
    """Return the memory to request, in whole hundreds: a scheduler kills a job that uses more.

    Other builds of torch need more to import, and memory is fragmented.
    """
    return 100 * ceil((1.25 * megabytes + 500) / 100)


def _requested_minutes(seconds: float) -> int:
    """Return the time limit to request: ten times the expected time, and ten minutes more."""
    return 10 + round(10 * seconds / 60)
