"""Jobs that fork from a process with the libraries behave as if run separately."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import small
import yaml
from pipeline import BIN

from metabench.records import artifacts, locks
from metabench.workflow import forking

CONTENT = small.tiny(cells=[small.short_fomaml(20, 0.01)], validation={"tasks": 4, "interval": 10})
TRAIN = ["train", "--study", "tiny", "--cell", "fomaml/published", "--seeds", "0-1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study, in which the test stands."""
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()
    Path("config/tiny.yaml").write_text(yaml.safe_dump(CONTENT))
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """The process to fork from."""
    monkeypatch.delenv(forking.ADDRESS, raising=False)  # and so it is again after the test
    process = forking.start()
    assert process
    with process:
        yield process
        assert process.stdin
        process.stdin.close()


def command(*arguments: str) -> subprocess.Popen[str]:
    """Start a command, which asks for a fork if there is a process to fork from."""
    pipe = subprocess.PIPE
    return subprocess.Popen([BIN / "metabench", *arguments], stdout=pipe, stderr=pipe, text=True)


def answer(*arguments: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command."""
    process = command(*arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until(condition: Callable[[], object]) -> None:
    """Wait for what must happen soon."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waiting(server: subprocess.Popen[bytes]) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Return a training that waits for the lock of its runs, and the fork that does it."""
    process = command(*TRAIN)
    assert process.stderr
    assert process.stderr.readline().startswith("engine: ")
    assert "waiting for process" in process.stderr.readline()
    (fork,) = psutil.Process(server.pid).children()
    return process, fork


ASKED = {
    "a study": ["plan", "--study", "tiny"],
    "help": ["evaluate", "--help"],
    "an unknown option": ["plan", "--nonsense"],
    "an unknown cell": ["train", "--study", "tiny", "--cell", "fomaml/x", "--seeds", "0-1"],
    "an unknown study": ["tables", "--study", "nowhere"],
}


def test_a_fork_answers_as_the_command_does_by_itself(
    folder: Path, server: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers() -> dict[str, tuple[int, str, str]]:
        """Return what each command answers, but for the minutes, which the machine's load moves."""
        found = {name: answer(*words) for name, words in ASKED.items()}
        minutes = re.compile(r" +[\d.]+ min")
        return {name: (code, minutes.sub("", out), err) for name, (code, out, err) in found.items()}

    of_forks = answers()
    monkeypatch.delenv(forking.ADDRESS)
    assert of_forks == answers()
    assert [code for code, _, _ in of_forks.values()] == [0, 0, 2, 2, 2]


def test_a_training_in_a_fork_leaves_the_same_bytes_and_says_the_same(
    folder: Path, server: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> tuple[bytes, tuple[int, str, str]]:
        output = answer(*TRAIN)
        (record,) = Path("results/tiny/train").rglob("*.safetensors")
        content = record.read_bytes()
        for path in Path("results").rglob("*.safetensors"):
            path.unlink()
        return content, output

    in_a_fork = trained()
    monkeypatch.delenv(forking.ADDRESS)
    assert trained() == in_a_fork
    assert in_a_fork[1][0] == 0


def test_a_command_and_its_fork_end_together(folder: Path, server: subprocess.Popen[bytes]) -> None:
    lock = locks.take(Path("results/tiny/checkpoints/fomaml") / CELL / "0-1.lock")
    assert lock
    process, fork = waiting(server)
    process.kill()
    process.communicate()
    until(lambda: not fork.is_running())
    process, fork = waiting(server)
    fork.kill()
    process.communicate(timeout=60)
    assert process.returncode == forking.KILLED
    process, fork = waiting(server)
    fork.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.startswith("metabench: interrupted; the same command")
    lock.close()


CELL = small.study(CONTENT).cells[0].path.rpartition("/")[2]


def test_without_a_process_to_fork_from_a_command_does_its_job_itself(
    folder: Path, server: subprocess.Popen[bytes]
) -> None:
    server.kill()
    server.wait()
    shutil.rmtree(Path(os.environ[forking.ADDRESS]).parent)
    code, output, _ = answer("plan", "--study", "tiny")
    assert code == 0 and "fomaml" in output


def test_what_a_fork_would_do_with_other_source_or_another_environment_the_command_does(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process imported the source as it was; a record says what is there now."""
    package = tmp_path_factory.mktemp("copy") / "metabench"
    shutil.copytree(small.ROOT / "metabench", package)
    monkeypatch.delenv(forking.ADDRESS, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    server = forking.start()
    assert server and server.stdin

    def source(address: str | None = os.environ[forking.ADDRESS]) -> str:
        """Train, and return which source the record names."""
        monkeypatch.setenv(forking.ADDRESS, address or "")
        assert answer(*TRAIN)[0] == 0
        (record,) = Path("results/tiny/train").rglob("*.safetensors")
        header = artifacts.read_header(record)
        shutil.rmtree("results")
        return str(header["code"])

    before = source()
    path = package / "learning" / "training.py"
    path.write_text(path.read_text() + "\nCHANGED = True\n")
    after = source()
    assert before != after == source(address=None)
    with server:
        server.stdin.close()


def test_where_no_process_can_be_started_there_is_none_and_nothing_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(forking.ADDRESS, raising=False)
    long = folder / ("x" * 100)  # more than the path of a socket may have
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert forking.start() is None
    assert forking.ADDRESS not in os.environ and not list(long.iterdir())


WORKFLOW = """
import os, time
from metabench.workflow import forking
print(forking.start().pid, os.environ[forking.ADDRESS], flush=True)
time.sleep(600)
"""


def test_the_process_ends_with_the_workflow_and_leaves_nothing(folder: Path) -> None:
    line = [sys.executable, "-c", WORKFLOW]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as workflow:
        assert workflow.stdout
        pid, address = workflow.stdout.readline().split()
        server = psutil.Process(int(pid))
        assert Path(address).exists()
        workflow.kill()
    until(lambda: not server.is_running())
    assert not Path(address).parent.exists()
