"""Run the smoke study with several Pythons, and say which results have the bytes of the first.

python tests/pythons.py python3.11 python3.12        what `make test-pythons` does

Each Python gets a copy of this checkout. `make smoke` sets up an environment there, with a kernel,
and runs the study.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pipeline import digests
from small import ROOT
from soak import COMPARED


class Results(NamedTuple):
    """The results of the study with one Python."""

    python: str
    """Its version."""
    engine: str
    torch: str
    files: dict[str, str]
    """The digest of each file."""


def executable(name: str) -> str | None:
    """Return the path of a Python, or None if it does not run here."""
    asked = [name, "-c", "import sys; print(sys.executable)"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def checkout(folder: Path) -> Path:
    """Copy what git knows of this checkout, with changes and new files."""
    known = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(known, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def smoke(python: str, cores: int) -> Results:
    """Run the smoke study in a copy of this checkout.

    Raises:
        SystemExit: It failed; its output was printed.
    """
    # What the calling make was told does not hold for this one.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    with TemporaryDirectory() as temporary:
        folder = checkout(Path(temporary))
        line = ["make", "smoke", f"PYTHON={python}", f"CORES={cores}"]
        answer = subprocess.run(
            line,
            cwd=folder,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if answer.returncode:
            print(answer.stdout, file=sys.stderr)
            raise SystemExit(f"the smoke study failed with {python}")
        about = json.loads((folder / "results" / "smoke" / "provenance.json").read_text())
        return Results(
            about["python"], about["engine"], about["versions"]["torch"], digests(folder, *COMPARED)
        )


def comparison(results: Results, first: Results) -> str:
    """Say in a line how many files of each kind have the bytes of the first Python's."""
    names = results.files.keys() | first.files.keys()
    same = {name for name in names if results.files.get(name) == first.files.get(name)}
    of_all = Counter(name.split("/")[0] for name in names)
    equal = Counter(name.split("/")[0] for name in same)
    counts = ", ".join(f"{kind} {equal[kind]} of {of_all[kind]}" for kind in COMPARED)
    lines = [f"{results.python}: files with the bytes of {first.python}: {counts}"]
    return "\n".join(lines + [f"  different: {name}" for name in sorted(names - same)])


def main() -> None:
    """Run the study with each Python that is here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cores", type=int, default=1, help="of the study")
    parser.add_argument("pythons", nargs="+", help="names or paths")
    given = parser.parse_args()
    found = {name: executable(name) for name in given.pythons}
    for name, python in found.items():
        if python is None:
            print(f"{name}: not here", flush=True)
    here = [python for python in found.values() if python is not None]
    if len(here) < 2:
        raise SystemExit(
            f"two Pythons are needed to compare them, and of these {len(here)} is here"
        )
    every: list[Results] = []
    for python in here:
        every.append(smoke(python, given.cores))
        print(comparison(every[-1], every[0]), flush=True)
        print(f"  engine {every[-1].engine}, torch {every[-1].torch}", flush=True)
    if any(results.files != every[0].files for results in every):
        raise SystemExit("not all of them gave the same bytes")


if __name__ == "__main__":
    main()
