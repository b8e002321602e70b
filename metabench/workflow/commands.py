"""The commands of jobs: this interpreter's, of the Snakefile's checkout, with one thread."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from metabench.workflow import checkout

MARK = "metabench: "
"""Prefix of log lines that tell the user what is wrong."""

INTERRUPTED = "interrupted; the same command resumes"
"""Beginning of the message of what Ctrl-C ended."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def set_up(snakemake: Any) -> None:
    """Set the environment of jobs, or end the program if they would run another checkout's code.

    Args:
        snakemake: Snakemake's workflow object, while it reads the Snakefile.
    """
    # The workflow's own folder is another one where the Snakefile is a module of it.
    folder = Path(snakemake.current_basedir.get_path_or_uri(secret_free=True))
    if reason := checkout.stray_snakefile(folder):
        refuse(reason)
    sys.excepthook = tell
    commands = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([commands, os.environ.get("PATH", "")])
    os.environ.update(dict.fromkeys(THREADS, "1"))


def tell(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Tell of an error that nobody caught: of Ctrl-C before any job runs, in one line."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{MARK}{INTERRUPTED}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, where)


def refuse(reason: str) -> NoReturn:
    """End the program with a one-line reason and exit code 2."""
    for line in reason.splitlines():
        print(f"{MARK}{line}", file=sys.stderr)
    sys.exit(2)
