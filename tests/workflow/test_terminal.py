"""The output of a running study: on a terminal, and in a log."""

import logging
import os
import pty
import re
import select
import struct
import subprocess
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

import pytest
import small
import yaml
from pipeline import BIN, copy, environment, snakemake
from small import ROOT

from metabench.cli import main
from metabench.views.tracking import store, ui
from metabench.workflow.progress import Job, StudyWatch
from metabench.workflow.terminal import Terminal, erase_profile, stage_of

TITLES = {"results/a": "train fomaml inner 0.02, seeds 0-2"}


@pytest.fixture
def terminal() -> Terminal:
    """A terminal that is none, with one training job and its tables to come."""
    found = Terminal("tiny", TITLES, lambda: "study tiny: nothing to do; fomaml is ahead")
    watch = StudyWatch({"results/a": Job(30.0, lambda: 0.5)}, cores=1, every=1000)
    found.begin({"train": 1, "tables": 1}, watch, {"tables": 10.0})
    return found


def log_event(terminal: Terminal, event: str | None, message: str = "", **fields: object) -> None:
    """Tell a terminal of an event as Snakemake does."""
    level = logging.ERROR if event == "job_error" else logging.INFO
    record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    record.__dict__ |= {"event": event, **fields}
    terminal.handle(record)


def start_job(terminal: Terminal, log: Path, output: str | None = None) -> None:
    """Let the training job begin, with what it says in its log."""
    if output is not None:
        log.write_text(output)
    fields = {"jobid": 7, "rule_name": "train", "output": ["results/a"], "log": [str(log)]}
    log_event(terminal, "job_info", **fields)


def test_a_log_gets_a_line_for_each_job_with_its_warnings(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    start_job(terminal, log, "engine: fused\nwarning: 1 of 3 runs diverged\ntrain: 3 of 3\n")
    log_event(terminal, "job_finished", job_id=7)
    log_event(terminal, "job_finished", job_id=8)  # of a job that nobody told of
    assert capsys.readouterr().err.splitlines() == [
        "train fomaml inner 0.02, seeds 0-2: warning: 1 of 3 runs diverged",
        "train fomaml inner 0.02, seeds 0-2 (1 of 2 jobs)",
        "study tiny: 75% after 0 s, about 10 s left",
    ]


@pytest.mark.parametrize(
    ("output", "reasons"),
    [
        pytest.param(
            "engine: fused\nmetabench: cannot write: No space left on device\n",
            ["cannot write: No space left on device"],
            id="a message of ours",
        ),
        pytest.param(
            'Traceback (most recent call last):\n  File "a.py"\nKeyError: "x"\n',
            ['KeyError: "x"'],
            id="an error in somebody's own algorithm, without its traceback",
        ),
        pytest.param("engine: fused\ntrain: 3 of 10\n", [], id="killed: progress is no reason"),
    ],
)
def test_a_job_that_fails_is_named_with_its_reason_and_its_log(
    terminal: Terminal,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    output: str,
    reasons: list[str],
) -> None:
    log = tmp_path / "log"
    start_job(terminal, log, output)
    log_event(terminal, "job_error", jobid=7, log=[str(log)], rule_msg=None)
    assert capsys.readouterr().err.splitlines() == [
        f"FAILED train fomaml inner 0.02, seeds 0-2; its log is {log}",
        *(f"       {reason}" for reason in reasons),
    ]


SAID = "metabench: interrupted; the same command resumes, from its checkpoint if it trains\n"


@pytest.mark.parametrize(
    ("message", "output"),
    [
        pytest.param("", SAID, id="it says so"),
        pytest.param("Terminating processes on user request", "", id="before it could say so"),
    ],
)
def test_a_job_that_is_interrupted_has_not_failed(
    terminal: Terminal,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    message: str,
    output: str,
) -> None:
    log = tmp_path / "log"
    start_job(terminal, log, output)
    log_event(terminal, None, message)
    log_event(terminal, "job_error", jobid=7, log=[str(log)], rule_msg=None)
    assert capsys.readouterr().err.strip() == message
    assert terminal.interrupted == bool(message) and not terminal.known


def test_the_reason_of_a_job_that_left_no_log_here_is_that_of_its_scheduler(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "elsewhere"
    start_job(terminal, log)
    log_event(
        terminal, "job_error", jobid=7, log=[str(log)], rule_msg="SLURM job 3 is OUT_OF_MEMORY"
    )
    assert capsys.readouterr().err.splitlines() == [
        "FAILED train fomaml inner 0.02, seeds 0-2; it left no log here",
        "       SLURM job 3 is OUT_OF_MEMORY",
    ]


def test_a_mistake_of_ours_is_reported_and_does_not_end_the_study(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_job(terminal, tmp_path)  # a folder, which cannot be read as a log
    log_event(terminal, "job_finished", job_id=7)
    assert "(1 of 2 jobs)" in capsys.readouterr().err
    log_event(terminal, "job_finished")  # without the number of its job
    assert "AttributeError" in capsys.readouterr().err


def test_snakemakes_own_words_are_left_out_but_for_warnings(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    log_event(terminal, None, "Building DAG of jobs...")
    log_event(terminal, "shellcmd", "metabench train")
    log_event(terminal, None, "Will exit after finishing currently running jobs (scheduler).")
    log_event(
        terminal, None, "Nothing to be done (all requested files are present and up to date)."
    )
    warning = logging.LogRecord("snakemake", logging.WARNING, "", 0, "a disk is slow", None, None)
    terminal.handle(warning)
    assert capsys.readouterr().err.splitlines() == [
        "Will exit after finishing currently running jobs (scheduler).",
        "study tiny: nothing to do; fomaml is ahead",
        "a disk is slow",
    ]


def test_each_tenth_of_the_expected_work_is_told_once(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert terminal.watch is not None
    for _ in range(3):
        terminal.watch.after_look()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"study tiny: 38% after 0 s, about \d+ s left", line)  # 15 of 30 + 10 s


def test_tenths_are_told_until_the_last_job_though_training_and_evaluation_ended_long_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = Terminal("tiny", TITLES, str)
    watch = StudyWatch({"results/a": Job(20.0, lambda: 0.0)}, cores=1, every=1000)
    short = {"tables": 10.0, "figures": 20.0, "track": 25.0}
    found.begin({"train": 1, "tables": 1, "figures": 1, "track_study": 2}, watch, short)
    jobs = ("train", "tables", "figures", "track_study", "track_study")
    for number, rule in enumerate(jobs):
        made = ["results/a"] if rule == "train" else []
        log_event(found, "job_info", jobid=number, rule_name=rule, output=made, log=[])
        log_event(found, "job_finished", job_id=number)
    told = re.findall(r"study tiny: (\d+)% after", capsys.readouterr().err)
    assert told == ["20", "30", "50", "75"]  # and not 100: the study ends with a message


def test_no_progress_is_told_after_the_end(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert terminal.watch is not None
    terminal.end()
    terminal.watch.after_look()
    assert capsys.readouterr().err == ""


def test_a_terminal_names_a_job_as_soon_as_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TERM": "xterm", "FORCE_COLOR": "1", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    found = Terminal("tiny", TITLES, str)
    watch = StudyWatch({"results/a": Job(30.0, lambda: 0.0)}, cores=1, every=1000)
    found.begin({"train": 1}, watch, {})
    try:
        capsys.readouterr()
        start_job(found, tmp_path / "log")
        assert TITLES["results/a"] in capsys.readouterr().err
    finally:
        found.end()


@pytest.mark.parametrize(("width", "rows"), [(100, 1), (80, 2), (40, 3)])
def test_snakemakes_line_about_its_profile_is_erased_whatever_the_width_of_the_terminal(
    width: int, rows: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["snakemake", "--cores", "2"])
    for name, value in {"TERM": "xterm", "FORCE_COLOR": "1", "COLUMNS": str(width)}.items():
        monkeypatch.setenv(name, value)
    erase_profile()
    assert capsys.readouterr().err == "\x1b[1A\x1b[2K" * rows


def test_stages_are_what_rules_are_for() -> None:
    rules = ("train", "evaluate", "track_cells_3", "track_study", "tables")
    assert [stage_of(rule) for rule in rules] == ["train", "evaluate", "track", "track", "tables"]


def tiny(folder: Path, *cells: dict[str, Any]) -> Path:
    """Write a study into a copy of the workflow: of these cells, or of no training."""
    copy(folder)
    content = small.tiny(cells=[*cells] or [small.RANDOM], validation={"tasks": 4, "interval": 10})
    (folder / "config" / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def on_a_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run Snakemake on a pseudo-terminal; return its exit code and all that it wrote."""
    leader, follower = pty.openpty()
    ioctl(follower, TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    command = [str(BIN / "snakemake"), "--cores", "2", "--configfile", "config/tiny.yaml"]
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env=environment() | {"TERM": "xterm-256color"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    output = b""
    while process.poll() is None or select.select([leader], [], [], 0)[0]:
        if select.select([leader], [], [], 0.2)[0]:
            try:
                output += os.read(leader, 65536)
            except OSError:
                break
    os.close(leader)
    return process.wait(), output.decode(errors="replace")


def plain(output: str) -> list[str]:
    """Return the lines of what a terminal was told, without colours and moves."""
    without = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    return [line.strip() for line in re.split(r"[\r\n]+", without) if line.strip()]


def shown(output: str) -> list[str]:
    """Return the lines that a terminal still shows where only whole lines were erased."""
    screen = [""]
    for text, move in re.findall(r"([^\x1b\r\n]*)(\r?\n|\x1b\[\??[0-9;]*[A-Za-z]|\r|$)", output):
        screen[-1] += text
        if move.endswith("\n"):
            screen.append("")
        elif move == "\x1b[1A":
            screen.pop()
        elif move == "\x1b[2K":
            screen[-1] = ""
    return [line for line in screen if line.strip()]


@pytest.mark.workflow
@pytest.mark.slow
def test_a_study_on_a_terminal_is_one_screen_that_ends_with_its_results(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    code, output = on_a_terminal(folder)
    lines = plain(output)
    assert code == 0, output
    screen = shown(output)
    assert screen[0].startswith("study tiny: "), "Snakemake's line about its profile is erased"
    assert not [
        line for line in lines if line.startswith(("input:", "output:", "reason:", "rule "))
    ]
    assert any(re.fullmatch(r"evaluate +[━╸╺]+ +2 of 2", line) for line in lines), lines
    assert any(line.startswith("train random untrained, seeds 0-1") for line in lines)
    last = lines[-9:]
    assert re.fullmatch(r"study tiny: finished in \d+ s|study tiny: finished in .* min", last[0])
    assert last[1].startswith("lowest scores of the selected cells (")
    assert last[2].startswith("robustness  random ") and last[3].startswith("standard    random ")
    words = [line.split() for line in last[4:8]]
    assert [first for first, *_ in words] == ["leaderboard", "figures", "report", "MLflow"]
    assert all(len(line) <= 78 for line in last[:7]), "lines are indented by two of 80"
    root = folder / "results" / "tiny"
    assert [Path(line[1]) for line in words[:3]] == [
        Path("results/tiny/tables/leaderboard.csv"),
        Path("results/tiny/figures"),
        Path("results/tiny/report.html"),
    ]
    (port,) = [option.default for option in main.commands["ui"].params if option.name == "port"]
    experiment = store.experiment(f"sqlite:///{root}/mlflow.db", "tiny")
    assert last[-2].endswith("metabench ui --study tiny")
    assert last[-1] == ui.page(f"http://127.0.0.1:{port}", str(experiment))
    moved_up = len(re.findall(r"\x1b\[1A", output))
    assert moved_up > 10, "the block is drawn over itself"
    log = max((folder / ".snakemake" / "log").glob("*.log")).read_text()
    assert "results/tiny/tables/runs.csv" in log and "    reason: " in log, "the listing is there"
    # On a finished study one line says so, and --verbose brings the listing back.
    code, output = on_a_terminal(folder)
    (line,) = shown(output)
    assert code == 0
    assert line.startswith("study tiny: nothing to do; lowest scores: robustness random ")
    listing = snakemake(folder, "--cores", "1", "--verbose", config="config/tiny.yaml")
    assert "Nothing to be done (all requested files" in listing.stderr


BROKEN = (
    (ROOT / "examples" / "prox.py")
    .read_text()
    .replace("    (support,) = batch\n", '    raise ValueError("no task is good enough")\n')
)


@pytest.mark.workflow
@pytest.mark.slow
def test_a_failed_job_on_a_terminal_is_told_with_its_reason_and_how_to_go_on(
    tmp_path: Path,
) -> None:
    steps = {"meta_batch_size": 1, "shots": 5, "inner_steps": 1, "inner_step_size": 0.02}
    broken = {"algorithm": "broken.py", "meta_iterations": 10, "meta_step_size": 0.1, **steps}
    folder = tiny(tmp_path, small.RANDOM, {**broken, "published": {}})
    (folder / "broken.py").write_text(BROKEN)
    code, output = on_a_terminal(folder, "--keep-going")
    assert code != 0
    screen = shown(output)
    (failed,) = [n for n, line in enumerate(screen) if line.startswith("FAILED train broken")]
    log = Path(screen[failed].rpartition("its log is ")[2])
    assert "Traceback" in (folder / log).read_text()
    assert screen[failed + 1].strip() == "ValueError: no task is good enough"
    assert len(screen) == failed + 3 and "the same command resumes" in screen[-1]
    assert not [line for line in screen if "━" in line], "the block is gone"
    assert output.rstrip().endswith(screen[-1]) and output.count("\x1b[?25h") >= 1, "a cursor"
    kept = list((folder / "results" / "tiny" / "evaluate" / "random").rglob("*.safetensors"))
    assert kept, "the other cell was evaluated"


@pytest.mark.workflow
@pytest.mark.slow
def test_verbose_brings_snakemakes_listing_back_on_a_terminal(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    target = "results/tiny/baselines/standard.safetensors"
    code, output = on_a_terminal(folder, "--verbose", target)
    assert code == 0
    lines = plain(output)
    assert any(line.startswith("output: results/tiny/baselines") for line in lines)
    assert not [line for line in lines if "━" in line], "no block beside the listing"


@pytest.mark.workflow
@pytest.mark.slow
def test_what_was_asked_for_of_a_study_is_not_called_all_of_it(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    answer = snakemake(folder, "baselines_only", config="config/tiny.yaml")
    assert answer.returncode != 0
    target = "results/tiny/baselines/standard.safetensors"
    answer = snakemake(folder, target, "--cores", "1", config="config/tiny.yaml")
    assert answer.returncode == 0, answer.stderr
    last = answer.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"study tiny: finished the requested files in .*; \d+ other files are not built", last
    )
    again = snakemake(folder, target, "--cores", "1", config="config/tiny.yaml")
    output = "study tiny: nothing to do; the requested files exist"
    assert again.returncode == 0 and again.stderr.splitlines()[-1] == output
