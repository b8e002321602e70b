"""Progress in a log, where there is no terminal."""

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
    jobs = [Job(90.0, lambda: shares["long"]), Job(10.0, lambda: shares["short"])]
    watch = StudyWatch("flux", jobs, cores=2)
    assert (
        watch.line() == "== study flux: 0% of training and evaluation done, about 50 s left"
    )  # 100 s on two cores
    shares["long"] = 0.5
    watch.start_time = time.monotonic() - 60
    assert (
        watch.line() == "== study flux: 45% of training and evaluation done, about 1.2 min left"
    )  # 55 at 60/45 s


def test_what_was_done_before_does_not_count_as_pace() -> None:
    shares = [0.5]
    watch = StudyWatch("flux", [Job(100.0, lambda: shares[0])], cores=1)
    shares[0] = 0.6
    watch.start_time = time.monotonic() - 30
    assert (
        watch.line() == "== study flux: 60% of training and evaluation done, about 2.0 min left"
    )  # 40 at 3 s


def test_a_study_that_is_done_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    watch = StudyWatch("flux", [Job(1.0, lambda: 1.0)], cores=1, every=0.01)
    watch.start()
    watch.join(timeout=5)
    assert not watch.is_alive() and capsys.readouterr().err == ""
