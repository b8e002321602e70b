"""Progress of long work: a bar on a terminal, lines with counts and remaining time in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from tqdm import tqdm


class Progress:
    """Count steps and tell the reader how far the work is.

    Args:
        label: What is being done.
        total: Steps in all.
        done: Steps done before, which took no time now.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label, self.total, self.done, self.before = label, total, done, done
        self.start = self.last = time.monotonic()
        self.bar = (
            tqdm(total=total, initial=done, desc=label, file=sys.stderr)
            if sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, steps: int = 1) -> None:
        """Count steps; a log gets a line at the end and at most every five seconds."""
        self.done += steps
        if self.bar is not None:
            self.bar.update(steps)
            return
        now = time.monotonic()
        if self.done >= self.total or now - self.last >= 5:
            self.last = now
            left = (now - self.start) / max(self.done - self.before, 1) * (self.total - self.done)
            print(
                f"{self.label}: {self.done} of {self.total} ({self.done / self.total:.0%}), {_clock(left)} left",
                file=sys.stderr,
                flush=True,
            )


class Job(NamedTuple):
    """A job of a study, as its watcher sees it."""

    seconds: float
    """How long it is expected to take."""
    share: Callable[[], float]
    """Which share of it is done, 0 to 1."""


class StudyWatch(threading.Thread):
    """Say every so often how far a whole study is, and how long it will take.

    Other processes work on it.

    Args:
        label: The study.
        jobs: Its jobs.
        cores: How many of them run at a time.
        every: Seconds between two lines.
    """

    def __init__(self, label: str, jobs: Sequence[Job], cores: int, every: float = 20.0) -> None:
        super().__init__(daemon=True)
        self.label, self.jobs, self.cores, self.every = label, jobs, cores, every
        self.start_time, self.before = time.monotonic(), self._done()

    def run(self) -> None:
        """Print a line at each interval until everything is done."""
        while self._done() < self._total():
            time.sleep(self.every)
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """Return the line: share done of the expected work, and time left at the pace so far."""
        done, elapsed = self._done(), time.monotonic() - self.start_time
        left = self._total() - done
        pace = elapsed / (done - self.before) if done > self.before else 1 / self.cores
        share = f"{done / self._total():.0%} of training and evaluation done"
        return f"== study {self.label}: {share}, about {_clock(left * pace)} left"

    def _done(self) -> float:
        return sum(job.seconds * job.share() for job in self.jobs)

    def _total(self) -> float:
        return sum(job.seconds for job in self.jobs)


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
