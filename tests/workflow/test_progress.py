"""Progress in a log, without a terminal."""

import sys
import time

import pytest

from metabench.workflow.progress import Job, Progress, StudyWatch


def test_a_log_gets_a_line_with_counts_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("train", 3) as progress:
        for _ in range(3):
            progress.advance()
    assert capsys.readouterr().err == "train: 3 of 3 (100%), 0 s left\n"


def test_remaining_time_is_that_of_the_steps_that_took_time_now(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress("train", 100, done=50)
    progress.start -= 120  # two minutes ago, 50 of 100 steps were there already
    progress.last -= 120
    progress.advance(10)
    assert capsys.readouterr().err == "train: 60 of 100 (60%), 8.0 min left\n"  # 40 steps at 12 s


def test_a_study_weighs_its_jobs_by_what_they_are_expected_to_take() -> None:
    shares = {"long": 0.0, "short": 0.0}
    jobs = {
        "a": Job(90.0, lambda: shares["long"]),
        "b": Job(10.0, lambda: shares["short"]),
    }
    watch = StudyWatch(jobs, cores=2)
    assert (watch.done, watch.left) == (0, 50)  # 100 s on two cores
    shares["long"] = 0.5
    watch.look()
    watch.start_time = time.monotonic() - 60
    assert watch.done == 45 and watch.shares == {"a": 0.5, "b": 0}
    assert watch.left == pytest.approx(55 * 60 / 45, rel=1e-3)


def test_what_was_done_before_does_not_count_as_pace() -> None:
    shares = [0.5]
    watch = StudyWatch({"a": Job(100.0, lambda: shares[0])}, cores=1)
    shares[0] = 0.6
    watch.look()
    watch.start_time = time.monotonic() - 30
    assert watch.left == pytest.approx(40 * 3, rel=1e-3)


def test_what_is_done_is_not_looked_at_again() -> None:
    looks: list[None] = []

    def share() -> float:
        looks.append(None)
        return 1.0

    watch = StudyWatch({"a": Job(1.0, share)}, cores=1)
    watch.look()
    assert watch.done == watch.total and len(looks) == 1


def test_a_watch_tells_after_each_look_and_ends_when_all_is_done() -> None:
    shares, shown = iter([0.0, 0.5, 1.0]), []
    watch = StudyWatch({"a": Job(1.0, lambda: next(shares))}, cores=1, every=0.01)
    watch.after_look = lambda: shown.append(watch.done)
    watch.start()
    watch.join(timeout=5)
    assert not watch.is_alive() and shown == [0.5, 1.0]


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("train", 3) as progress:
        progress.advance(2)
        assert progress.bar is not None
        (task,) = progress.bar.tasks
        assert (task.description, task.completed, task.total) == ("train", 2, 3)
