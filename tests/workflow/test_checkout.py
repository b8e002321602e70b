"""A copied or moved checkout with its environment runs its own code or nothing."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from pipeline import environment
from small import ROOT

PARTS = ("metabench", "Snakefile", "workflow", "profiles", "config", "environment.yml", "Makefile")
PLAN = ("plan", "--config", "config/smoke.yaml")
DRY = ("--dry-run", "--quiet", "--cores", "1", "--configfile", "config/smoke.yaml")


def script(module: str) -> str:
    """Return a command as pip writes it, but for its first line."""
    return f"import sys\nfrom {module} import main\nsys.exit(main())\n"


def checkout(folder: Path) -> Path:
    """Make a checkout with an environment of its own, whose packages are those of this one."""
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    home = folder / ".venv"
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/*/site-packages")
    installed = [path for path in sys.path if path.endswith("-packages")]
    (packages / "environment.pth").write_text("\n".join([str(folder), *installed]))
    for name, module in {"metabench": "metabench.cli", "snakemake": "snakemake.cli"}.items():
        command = home / "bin" / name
        command.write_text(f"#!{home}/bin/python\n{script(module)}")
        command.chmod(0o755)
    (home / ".installed").touch()
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("checkouts") / "original")


@pytest.fixture(scope="module")
def copied(original: Path) -> Path:
    """A copy of it, whose commands still name the interpreter of the original."""
    return shutil.copytree(original, original.with_name("copied"), symlinks=True)


def run(folder: Path, *line: object) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    words = [str(word) for word in line]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=kept, check=False)


def assert_refused(answer: subprocess.CompletedProcess[str], original: Path) -> None:
    """Hold that a command said in one line that the original's code would run, and did nothing."""
    messages = [line for line in answer.stderr.splitlines() if line.startswith("metabench: ")]
    assert answer.returncode == 2 and len(messages) == 1, answer.stderr
    assert str(original / "metabench") in messages[0] and "make setup" in messages[0]
    assert "Traceback" not in answer.stderr and not answer.stdout


@pytest.mark.parametrize("line", [("metabench", *PLAN), ("snakemake", *DRY)], ids=lambda x: x[0])
def test_a_checkout_runs_its_own_code(original: Path, line: tuple[str, ...]) -> None:
    answer = run(original, original / ".venv/bin" / line[0], *line[1:])
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("where", ["its folder", "another folder"])
def test_the_command_of_a_copy_does_not_run_the_code_of_the_original(
    original: Path, copied: Path, tmp_path: Path, where: str
) -> None:
    folder = copied if where == "its folder" else tmp_path
    answer = run(folder, copied / ".venv/bin/metabench", "plan", "--config", copied / PLAN[-1])
    assert_refused(answer, original)


def test_the_command_of_the_original_does_not_run_in_a_copy(original: Path, copied: Path) -> None:
    assert_refused(run(copied, original / ".venv/bin/metabench", *PLAN), original)


def test_a_link_to_a_command_is_that_command(original: Path, tmp_path: Path) -> None:
    (tmp_path / "metabench").symlink_to(original / ".venv/bin/metabench")
    answer = run(tmp_path, tmp_path / "metabench", "plan", "--config", original / PLAN[-1])
    assert answer.returncode == 0, answer.stderr


@pytest.mark.workflow
@pytest.mark.parametrize("whose", ["copied", "original"])
def test_the_snakefile_of_a_copy_does_not_run_the_code_of_the_original(
    original: Path, copied: Path, whose: str
) -> None:
    answer = run(copied, original.with_name(whose) / ".venv/bin/snakemake", *DRY)
    assert_refused(answer, original)
    assert not (copied / "results").exists()


PYTHON = """#!/bin/sh
# Stands for an interpreter: makes an environment whose command names its folder, and no more.
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *--editable*) echo "#!$(pwd -P)/.venv/bin/python" > .venv/bin/metabench ;;
esac
"""


@pytest.fixture
def setup(tmp_path: Path) -> Callable[[Path], str]:
    """A function that runs `make setup` in a folder, and returns what it says."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def made(folder: Path) -> str:
        answer = run(folder, "make", "setup", f"PYTHON={python}")
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    return made


def sources(folder: Path) -> Path:
    """Make a folder with what the environment is made from, which a shell would take apart."""
    (folder / "metabench/learning/engine").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    (folder / "metabench/learning/engine/kernel.cpp").touch()
    return folder


ANEW = "belongs to a different folder"


def test_make_makes_the_environment_of_a_copied_or_moved_checkout_anew(
    setup: Callable[[Path], str], tmp_path: Path
) -> None:
    first = sources(tmp_path / "it's a $(touch HACKED) checkout")
    assert ANEW not in setup(first) and "Nothing to be done" in setup(first)
    copy = shutil.copytree(first, tmp_path / "copy", copy_function=shutil.copy2)
    assert ANEW in setup(copy) and "Nothing to be done" in setup(copy)
    moved = copy.rename(tmp_path / "moved")
    assert ANEW in setup(moved) and "Nothing to be done" in setup(moved)
    assert "Nothing to be done" in setup(first)
    assert not list(tmp_path.rglob("HACKED"))


def test_make_leaves_the_environment_alone_that_a_link_leads_to(
    setup: Callable[[Path], str], tmp_path: Path
) -> None:
    first, second = sources(tmp_path / "first"), sources(tmp_path / "second")
    setup(first)
    (second / ".venv").symlink_to(first / ".venv")
    assert ANEW in setup(second) and not (second / ".venv").is_symlink()
    assert "Nothing to be done" in setup(first)


def test_make_begins_an_environment_again_that_was_not_made_to_its_end(
    setup: Callable[[Path], str], tmp_path: Path
) -> None:
    folder = sources(tmp_path / "first")
    setup(folder)
    (folder / ".venv/bin/metabench").unlink()
    assert ANEW in setup(folder) and "Nothing to be done" in setup(folder)
