"""The Snakefile in a job on another machine, where a study's paths are enough.

The workflow has decided what the job computes, which files it waits for and what it may use. The
modules that decide this import torch, which would take longer than many a job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from metabench.records import manifests
from metabench.records.layout import Layout
from metabench.workflow import commands, modules


@dataclass(frozen=True)
class RemoteJob:
    """What the rules read of a study: `metabench.workflow.snakefile.Workflow` without the study.

    Args:
        layout: The files of the study.
        snakemake: Snakemake's workflow object.
    """

    layout: Layout
    snakemake: Any

    store: ClassVar = "elsewhere"
    """Only local jobs write to an MLflow store."""
    records: ClassVar = ()
    literature: ClassVar = ()
    batches: ClassVar[dict[str, Any]] = {}
    table_entries: ClassVar[dict[Path, Any]] = {}
    figure_entries: ClassVar[dict[Path, Any]] = {}

    @classmethod
    def start(cls, content: Mapping[str, Any], snakemake: Any) -> Self:
        """Set up the job's command.

        Args:
            content: The configuration; only the name of its study is used, because the study file
                may have changed.
            snakemake: Snakemake's workflow object.
        """
        commands.set_up(snakemake)
        return cls(Layout(modules.results(snakemake) / str(content["study"])), snakemake)

    @property
    def tables(self) -> list[Path]:
        """The manifest of the tables, which is written last."""
        return [self.layout.tables / manifests.NAME]

    @property
    def figures(self) -> list[Path]:
        """The manifest of the figures, which is written last."""
        return [self.layout.figures / manifests.NAME]

    def inputs(self, *_: Path) -> Callable[[Any], list[str]]:
        """Return an input function that waits until this machine sees the study as it is run.

        The command line names the input files to wait for. The study cannot be one of them: the
        workflow writes it once it knows what must run.
        """

        def files(wildcards: Any) -> list[str]:
            deadline = time.monotonic() + self.snakemake.execution_settings.latency_wait
            while not self.layout.study.exists() and time.monotonic() < deadline:
                time.sleep(0.5)
            return []

        return files

    def made_by(self, *_: str) -> list[Path]:
        """Return no artefacts: only local jobs and the default target read them."""
        return []

    def granted(self, wildcards: Any) -> int:
        """Return nothing to request: the scheduler has granted what the workflow requested."""
        return 0

    train_memory = evaluate_memory = tables_memory = granted
    train_minutes = evaluate_minutes = tables_minutes = granted

    def each_attempt(self, amount: int) -> int:
        """Return nothing to request."""
        return 0
