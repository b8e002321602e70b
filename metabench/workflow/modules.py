"""The Snakefile as a module of another workflow: where its results are, and who calls its hooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from metabench.records.layout import RESULTS


def is_module(snakemake: Any) -> bool:
    """Return whether Snakemake reads the Snakefile for another workflow's `module` statement."""
    return not snakemake.modifier.is_main_snakefile()


def results(snakemake: Any) -> Path:
    """Return the folder of all studies, and let the rules name files in it as they are.

    Snakemake would put the prefix of a module before the paths of its rules alone. Jobs, staleness
    and tracking need the same paths, so `Layout` contains the prefix and Snakemake adds none.

    Args:
        snakemake: Snakemake's workflow object, while it reads the Snakefile.
    """
    from snakemake.path_modifier import PathModifier

    modifier = snakemake.modifier
    folder = Path(modifier.path_modifier.replace_prefix(f"{RESULTS}/study")).parent
    modifier.path_modifier = PathModifier(None, None, snakemake)
    return folder


def add_hooks(snakemake: Any, onstart: Callable[[], None], onerror: Callable[[], None]) -> None:
    """Have Snakemake call hooks before those of the workflow: it calls none of a module.

    Args:
        snakemake: Snakemake's workflow object, after it has read all files.
        onstart: Called once it is known that jobs will run.
        onerror: Called if jobs have failed.
    """
    snakemake._onstart = _both(onstart, snakemake._onstart)
    snakemake._onerror = _both(onerror, snakemake._onerror)


def _both(first: Callable[[], None], then: Callable[[Any], None]) -> Callable[[Any], None]:
    def hook(log: Any) -> None:
        first()
        then(log)

    return hook
