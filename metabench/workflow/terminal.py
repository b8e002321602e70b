"""Show a running study: a live block on a terminal, a line for each job in a log.

Snakemake logs all events, and its own log file keeps them. For a user, this replaces Snakemake's
listing of files and reasons.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from metabench.workflow.commands import INTERRUPTED, MARK
from metabench.workflow.progress import StudyWatch, clock

STAGES = (
    "train",
    "evaluate",
    "baselines",
    "predictions",
    "tables",
    "figures",
    "literature",
    "report",
    "track",
)
"""In the order in which most of their work is done."""

NOTICES = (
    "warning: ",
    "restarted from the beginning",
    "resuming from the checkpoint",
    "waiting for process",
)
"""Prefixes of log lines that the user must see although the job succeeded."""

TERMINATING = "Terminating processes"
"""Prefix of Snakemake's message when Ctrl-C interrupts it."""

WORDS = (TERMINATING, "Will exit after", "Trying to restart", "Unlocked")
"""Prefixes of Snakemake's messages that the user must see although they are not warnings."""

REPEATED = (
    "CalledProcessError in file",
    "Exiting because a job execution failed",
    "At least one job did not complete successfully",
)
"""Parts of Snakemake's errors that say less than the failed job's own message."""

TARGET = "all"
"""The rule that only requests the others."""

NOTHING = "Nothing to be done"
"""Prefix of Snakemake's message when everything is up to date."""

PROFILE = Path("profiles", "default")
"""The profile that Snakemake reads in this folder, and names in a line of its own."""

NAMED = ("--profile", "--workflow-profile")
"""Options that name other profiles, in a line of another length."""

SHOWN = 4
"""The most running jobs that the live block names."""


def stage_of(rule: str) -> str:
    """Return the stage of a rule.

    Example:
        >>> stage_of("train"), stage_of("track_cells_0"), stage_of("track_study")
        ('train', 'track', 'track')
    """
    return rule.partition("_")[0]


def erase_profile() -> None:
    """Erase Snakemake's line about its profile, the last one on the terminal, if there is one.

    Snakemake prints it before it reads the Snakefile, so nothing else can keep it from being the
    first line of a study.
    """
    console = Console(stderr=True)
    line = f"Using workflow specific profile {PROFILE} for setting default command line arguments."
    others = any(word.startswith(NAMED) for word in sys.argv) or "SNAKEMAKE_PROFILE" in os.environ
    if console.is_terminal and PROFILE.exists() and not others:
        for _ in range(ceil(len(line) / console.width)):  # a narrow terminal wraps it
            console.control(Control((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)))


@dataclass(frozen=True)
class Started:
    """A running job.

    Args:
        rule: Its rule.
        made: The first file that it produces.
        log: Its log, if it has one.
        since: Start time.
    """

    rule: str
    made: str
    log: Path | None
    since: float


class Terminal(logging.Handler):
    """A handler of Snakemake's log that shows a study's jobs on the standard error.

    Args:
        name: The study.
        titles: Title of each job, by the file that it produces.
        finished: Returns the message if there is nothing to do.
    """

    def __init__(self, name: str, titles: Mapping[str, str], finished: Callable[[], str]) -> None:
        super().__init__(logging.INFO)
        self.name, self.titles, self.finished = name, titles, finished
        self.console = Console(stderr=True, highlight=False)
        self.totals: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.known: dict[int, Started] = {}
        self.started = time.monotonic()
        self.watch: StudyWatch | None = None
        self.short: Mapping[str, float] = {}
        self.live: Live | None = None
        self.tenth = 0
        self.interrupted = False
        # Snakemake and the watcher print from different threads.
        self.showing = threading.RLock()
        # However Snakemake ends, the terminal gets its cursor back.
        atexit.register(self.end)

    def take_over(self, logger: logging.Logger) -> None:
        """Show a logger's messages, in place of its handler for the standard streams."""
        for handler in logger.handlers:
            if handler.get_name() == "DefaultStreamHandler":
                handler.addFilter(lambda record: False)
                self.setFormatter(handler.formatter)
        logger.addHandler(self)

    def begin(
        self, rules: Mapping[str, int], watch: StudyWatch, short: Mapping[str, float]
    ) -> None:
        """Start showing jobs.

        Args:
            rules: Number of jobs of each rule that will run.
            watch: The watcher of training and evaluation.
            short: Seconds of a job of another stage.
        """
        for rule, count in rules.items():
            self.totals[stage_of(rule)] += count
        self.watch, self.short = watch, short
        watch.after_look = self._print_tenth
        watch.start()
        if self.console.is_terminal:
            # A transient block vanishes at the end and leaves only the printed lines.
            self.live = Live(get_renderable=self._block, console=self.console, transient=True)
            self.live.start()

    def end(self) -> None:
        """Remove the live block, and print no more progress; other output is printed as it is."""
        with self.showing:
            self.tenth = 10
            if self.live is not None:
                self.live.stop()
                self.live = None

    def echo(self, line: str, style: str = "") -> None:
        """Print a line, above the live block if there is one."""
        with self.showing:
            if self.console.is_terminal:
                # Names of cells may contain brackets, which are markup to rich.
                self.console.print(line, style=style, markup=False, soft_wrap=True)
            else:
                print(line, file=sys.stderr, flush=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Handle an event; an error here must not end Snakemake."""
        try:
            self._notice(record)
        except Exception:
            self.handleError(record)

    def _notice(self, record: logging.LogRecord) -> None:
        event, message = str(getattr(record, "event", None) or ""), record.getMessage()
        if act := getattr(self, f"_on_{event}", None):
            act(record)
        elif message.startswith(NOTHING):
            self.echo(self.finished())
        elif any(part in message for part in REPEATED):
            pass
        elif record.levelno >= logging.WARNING:
            self.echo(self.format(record), "red" if record.levelno > logging.WARNING else "yellow")
        elif message.startswith(WORDS):
            self.interrupted |= message.startswith(TERMINATING)
            self.echo(message, "yellow")

    # What Snakemake tells of jobs.

    def _on_job_info(self, record: Any) -> None:
        made, log = str(record.output[0]) if record.output else "", record.log
        path = Path(log[0]) if log else None
        self.known[record.jobid] = Started(record.rule_name, made, path, time.monotonic())
        with self.showing:
            if self.live is not None and len(self.known) <= SHOWN:
                self.live.refresh()  # a job may end before the next of the regular ones

    def _on_job_finished(self, record: Any) -> None:
        # Snakemake calls this attribute job_id here and jobid in its other events.
        job = self.known.pop(record.job_id, None)
        if job is None or job.rule == TARGET:
            return
        self.done[stage_of(job.rule)] += 1
        for line in _lines(job.log, NOTICES):
            self.echo(f"{self._title(job)}: {line}", "yellow")
        if self.live is None:
            self.echo(f"{self._title(job)} ({self.done.total()} of {self.totals.total()} jobs)")
        # The watcher ends with training and evaluation, before tables and figures.
        if self.watch is not None:
            self.watch.finish(job.made)
            self._print_tenth()

    def _on_job_error(self, record: Any) -> None:
        job = self.known.pop(record.jobid, None)
        reason = [] if job is None else _reason(job.log)
        # Ctrl-C reaches the jobs as well, and the study tells of it once.
        if job is None or self.interrupted or any(line.startswith(INTERRUPTED) for line in reason):
            return
        logs = [str(log) for log in record.log if Path(log).exists()]
        where = f"; its log is {', '.join(logs)}" if logs else "; it left no log here"
        self.echo(f"FAILED {self._title(job)}{where}", "red")
        for line in [*reason, *str(record.rule_msg or "").splitlines()]:
            self.echo(f"       {line}", "red")

    def _title(self, job: Started) -> str:
        return self.titles.get(job.made) or job.rule.replace("_", " ")

    # What is seen of the whole.

    def _far(self) -> tuple[float, float]:
        """Return the finished share of the expected work, and the remaining seconds."""
        assert self.watch is not None
        total = sum(self.totals[stage] * each for stage, each in self.short.items())
        done = sum(self.done[stage] * each for stage, each in self.short.items())
        share = (self.watch.done + done) / (self.watch.total + total)
        return share, self.watch.left + total - done

    def _line(self) -> str:
        share, left = self._far()
        since = clock(time.monotonic() - self.started)
        return f"study {self.name}: {share:.0%} after {since}, about {clock(left)} left"

    def _print_tenth(self) -> None:
        """Print the progress at each tenth of the work but the last, if there is no live block."""
        with self.showing:  # two threads must not print the same tenth
            tenth = int(10 * self._far()[0])
            if self.live is None and self.tenth < tenth < 10:
                self.tenth = tenth
                self.echo(self._line())

    def _block(self) -> RenderableType:
        """Return the live block: a bar for each stage, and the jobs that run."""
        stages = Table.grid(padding=(0, 2))
        stages.add_column(min_width=10)
        # Snakemake's thread changes the jobs meanwhile, so each use copies them.
        working = Counter(stage_of(job.rule) for job in list(self.known.values()))
        for stage in [name for name in STAGES if self.totals[name]]:
            done, total = self.done[stage], self.totals[stage]
            bar = ProgressBar(total=total, completed=done, width=32)
            running = f"{working[stage]} running" if working[stage] else ""
            stages.add_row(stage, bar, Text(f"{done} of {total}", justify="right"), running)
        jobs = [self._working(job) for job in list(self.known.values())[:SHOWN]]
        return Group("", stages, "", *jobs, Text(self._line(), style="bold"))

    def _working(self, job: Started) -> Text:
        share = self.watch.shares.get(job.made, 0.0) if self.watch is not None else 0.0
        far = f"{share:.0%}, " if share else ""
        since = clock(time.monotonic() - job.since)
        return Text(
            f"  {self._title(job)}  {far}{since}", style="dim", overflow="ellipsis", no_wrap=True
        )


def _reason(log: Path | None) -> list[str]:
    """Return the error that ended a job: our last message, or the last line of a traceback."""
    if ours := _lines(log, (MARK,)):
        return [ours[-1].removeprefix(MARK)]
    return _lines(log)[-1:] if _lines(log, ("Traceback ",)) else []


def _lines(log: Path | None, starts: tuple[str, ...] = ("",)) -> list[str]:
    """Return the lines of a log with some prefix; none if it cannot be read."""
    if log is None:
        return []
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.startswith(starts)]
