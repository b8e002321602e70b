"""Progress of long work: a bar on a terminal, lines with counts and remaining time in a log."""

from __future__ import annotations

import sys
import time
from typing import Self

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
        self.bar = tqdm(total=total, initial=done, desc=label, file=sys.stderr) if sys.stderr.isatty() else None

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


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
