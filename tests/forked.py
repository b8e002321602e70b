"""Processes that start with the libraries imported, which otherwise takes three seconds.

A server has imported libraries and nothing of metabench. Each process forks from it, so it runs
whatever package, folder and environment it is told to. What must be a process of its own from its
first instruction, because it is killed or has other libraries, is not started here.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory

LIBRARIES = [
    *("torch", "pandas", "pyarrow", "scipy.special", "scipy.stats", "seaborn", "pytest"),
    *("snakemake.cli", "snakemake.workflow", "snakemake.dag"),
]
OURS = Path(__file__).parent, Path(__file__).parent.parent
"""Folders of the tests that start processes, which programs do not see."""

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(LIBRARIES)


def run(
    program: str, arguments: list[str], folder: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Args:
        program: A command of this interpreter: `pytest` or `snakemake`.
        arguments: Its own.
        folder: Where it runs.
        variables: Its environment. The folders of PYTHONPATH come before all others.
    """
    with TemporaryDirectory() as streams:
        command = str(Path(sys.executable).with_name(program)), *arguments
        request = command, folder, dict(variables), Path(streams)
        process = SERVER.Process(target=_begin, args=request)
        process.start()
        process.join()
        out, err = ((Path(streams) / name).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess(command, int(process.exitcode or 0), out, err)


def _begin(
    command: tuple[str, ...], folder: Path, variables: dict[str, str], streams: Path
) -> None:
    """Become the program."""
    assert not [name for name in sys.modules if name.split(".")[0] == "metabench"], "the original"
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(streams / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    entries = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = entries + [path for path in sys.path if Path(path) not in OURS]
    sys.argv = list(command)
    (program,) = entry_points(group="console_scripts", name=Path(command[0]).name)
    sys.exit(program.load()())
