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


def run(folder: Path, *line: object, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with another folder first on the path."""
    kept = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    kept["PATH"] = ":".join([*([str(first)] if first else []), kept["PATH"]])
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
    *--requirement*) echo "pip" >> installers ;;
    --version) echo "Python VERSION" ;;
esac
"""
UV = """#!/bin/sh
# Stands for uv: notes what it was asked to install, and fails where FAILS matches.
case "$*" in
    --version) ;;
    FAILS) exit 1 ;;
    *"--torch-backend cpu"*) echo "uv, for processors" >> installers ;;
    *) echo "uv" >> installers ;;
esac
"""


def command(path: Path, text: str) -> Path:
    """Write a command."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def setup(tmp_path: Path) -> Callable[..., str]:
    """A function that runs `make setup` in a folder, and returns what it says.

    The version of the Python may be given, and a folder with commands that come first.
    """

    def made(folder: Path, version: str = "3.11.7", first: Path | None = None) -> str:
        python = command(tmp_path / f"python-{version}", PYTHON.replace("VERSION", version))
        answer = run(folder, "make", "setup", f"PYTHON={python}", first=first)
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
    setup: Callable[..., str], tmp_path: Path
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
    setup: Callable[..., str], tmp_path: Path
) -> None:
    first, second = sources(tmp_path / "first"), sources(tmp_path / "second")
    setup(first)
    (second / ".venv").symlink_to(first / ".venv")
    assert ANEW in setup(second) and not (second / ".venv").is_symlink()
    assert "Nothing to be done" in setup(first)


def test_make_begins_an_environment_again_that_was_not_made_to_its_end(
    setup: Callable[..., str], tmp_path: Path
) -> None:
    folder = sources(tmp_path / "first")
    setup(folder)
    (folder / ".venv/bin/metabench").unlink()
    assert ANEW in setup(folder) and "Nothing to be done" in setup(folder)


def test_a_python_on_the_command_line_replaces_that_of_the_environment(
    setup: Callable[..., str], tmp_path: Path
) -> None:
    folder = sources(tmp_path / "first")
    setup(folder, "3.11.7")
    assert ANEW in setup(folder, "3.13.5") and "Nothing to be done" in setup(folder, "3.13.5")


def test_make_leaves_an_environment_alone_if_the_python_named_is_not_there(
    setup: Callable[..., str], tmp_path: Path
) -> None:
    folder = sources(tmp_path / "first")
    setup(folder)
    answer = run(folder, "make", "setup", "PYTHON=python2.99")
    assert answer.returncode != 0 and "but 'python2.99' is not there" in answer.stderr
    assert (folder / ".venv/.installed").exists()


def test_make_takes_the_first_supported_python_that_runs(tmp_path: Path) -> None:
    folder, first = sources(tmp_path / "first"), tmp_path / "commands"
    command(first / "python3.11", "#!/bin/sh\nexit 127\n")
    command(first / "python3.12", PYTHON)
    command(first / "python3.13", PYTHON)
    assert " PYTHON=python3.12 " in run(folder, "make", first=first).stdout


def test_make_says_in_one_line_which_python_it_needs(tmp_path: Path) -> None:
    folder = sources(tmp_path / "first")
    answer = run(folder, "make", "setup", f"PYTHON={sys.executable}", "SUPPORTED=3.97 3.98")
    version = ".".join(map(str, sys.version_info[:3]))
    assert answer.returncode != 0 and not (folder / ".venv").exists()
    assert answer.stderr.splitlines()[0] == (
        f"metabench needs Python 3.97 to 3.98, but '{sys.executable}' is Python {version}; "
        "name another: make PYTHON=python3.97 ..."
    )


@pytest.mark.parametrize(
    ("fails", "installer"),
    [
        ("nothing", "uv, for processors"),
        ('*"--torch-backend cpu"*', "uv"),
        ("*install*", "pip"),
    ],
)
def test_make_installs_with_uv_and_torch_for_processors_where_it_can(
    setup: Callable[..., str], tmp_path: Path, fails: str, installer: str
) -> None:
    folder = sources(tmp_path / "first")
    uv = command(tmp_path / "commands" / "uv", UV.replace("FAILS", fails))
    setup(folder, first=uv.parent)
    assert (folder / "installers").read_text().splitlines() == [installer]
