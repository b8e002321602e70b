"""Progress of long work: a bar on a terminal, lines with counts and remaining time in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Count steps and report the progress.

    Args:
        label: Description of the work.
        total: Total number of steps.
        done: Steps done before, which took no time in this run.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label, self.total, self.done, self.before = label, total, done, done
        self.start = self.last = time.monotonic()
        self.bar = _bar() if sys.stderr.isatty() else None
        if self.bar is not None:
            self.task = self.bar.add_task(label, total=total, completed=done)
            self.bar.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, steps: int = 1) -> None:
        """Count steps; a log gets a line at most every five seconds, and one at the end."""
        self.done += steps
        if self.bar is not None:
            self.bar.advance(self.task, steps)
            return
        now = time.monotonic()
        if self.done >= self.total or now - self.last >= 5:
            self.last = now
            left = (now - self.start) / max(self.done - self.before, 1) * (self.total - self.done)
            share = f"{self.done} of {self.total} ({self.done / self.total:.0%})"
            print(f"{self.label}: {share}, {clock(left)} left", file=sys.stderr, flush=True)


def _bar() -> Bar:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    return Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True))


class Job(NamedTuple):
    """A job of a study, for the watcher."""

    seconds: float
    """Expected seconds of the job."""
    share: Callable[[], float]
    """Finished share of the job, 0 to 1."""


class StudyWatch(threading.Thread):
    """Watch the progress and remaining time of the long jobs of a study.

    Other processes work on them.

    Args:
        jobs: The jobs, by the file that each produces.
        cores: Number of jobs that run at a time.
        every: Seconds between two looks.
        after_look: Called after each look.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        cores: int,
        every: float = 2.0,
        after_look: Callable[[], None] = lambda: None,
    ) -> None:
        # A daemon thread does not delay the end of an interrupted workflow.
        super().__init__(daemon=True)
        self.jobs, self.cores, self.every, self.after_look = jobs, cores, every, after_look
        self.total = sum(job.seconds for job in jobs.values())
        self.shares = dict.fromkeys(jobs, 0.0)
        self.look()
        # What earlier calls finished says nothing about the speed of this one.
        self.start_time, self.before = time.monotonic(), self.done

    def run(self) -> None:
        """Check at each interval until everything is done."""
        while self.done < self.total:
            time.sleep(self.every)
            self.look()
            self.after_look()

    def look(self) -> None:
        """Update the finished share of each job, which never decreases."""
        for name, job in self.jobs.items():
            if self.shares[name] < 1:
                self.shares[name] = job.share()

    def finish(self, name: str) -> None:
        """Count a job as finished before the next look, if it is one of these."""
        if name in self.shares:
            self.shares[name] = 1.0

    @property
    def done(self) -> float:
        """Finished part of `total`, in expected seconds."""
        return sum(job.seconds * self.shares[name] for name, job in self.jobs.items())

    @property
    def left(self) -> float:
        """Remaining seconds at the pace so far."""
        done, elapsed = self.done, time.monotonic() - self.start_time
        # Until a job has advanced, its expected time is the only estimate.
        pace = elapsed / (done - self.before) if done > self.before else 1 / self.cores
        return (self.total - done) * pace


def clock(seconds: float) -> str:
    """Format a time.

    Example:
        >>> clock(12.3), clock(90)
        ('12 s', '1.5 min')
    """
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
