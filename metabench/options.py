"""Types of command-line values, options shared by several commands, and error reporting."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any, NoReturn

import click

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
TABLES = click.Path(exists=True, file_okay=False, path_type=Path)
MOST = 100_000
"""The largest number that `predict` takes."""


class StudyType(click.ParamType[Any]):
    """A study: its name, its file, or the study.json that the workflow wrote.

    Args:
        started: Whether a name means the study as it is run, if it was started.
    """

    name = "study"

    def __init__(self, started: bool = True) -> None:
        self.started = started

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the study and check it."""
        from metabench.records import running

        return running.read(value, self.started)


class SeedBlock(click.ParamType[str]):
    """A block of seeds, FIRST-LAST."""

    name = "FIRST-LAST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that it is a block of seeds."""
        from metabench.study.jobs import seeds_of

        try:
            seeds_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class StepSize(click.FloatRange):
    """A step size; not NaN, which passes every range check."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check that it is a number in the range."""
        size = super().convert(value, param, ctx)
        return self.fail(f"{size} is not a number.", param, ctx) if isnan(size) else size


class Words(click.ParamType[tuple[str, ...]]):
    """Words separated by commas."""

    name = "WORDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split the words."""
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())


class Answering(click.Group):
    """Commands that report a user's mistake in one clear line, with an exit code other than 0."""

    def invoke(self, ctx: click.Context) -> Any:
        """Read the arguments of a command, and run it."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click answers them itself
        except ModuleNotFoundError as error:
            answer(f"{error}; install the locked versions: pip install -r requirements.lock", 2)
        except KeyboardInterrupt:
            from metabench.workflow.commands import INTERRUPTED

            answer(f"{INTERRUPTED}, from its checkpoint if it trains", 130)
        except Exception as error:
            from metabench.learning.engine import EngineError
            from metabench.records.artifacts import ArtifactError
            from metabench.study.messages import ConfigError

            if not isinstance(error, ArtifactError | ConfigError | EngineError | OSError):
                raise
            answer(str(error), 2)


def answer(text: str, code: int) -> NoReturn:
    """End the program with messages for the user."""
    for line in text.splitlines():
        click.echo(f"metabench: {line}", err=True)
    sys.exit(code)


study_option = click.option(
    "--study",
    "running",
    type=StudyType(),
    default="flux",
    show_default=True,
    help="Name of a study, its file, or the study.json of a study that was started.",
)
cell_option = click.option(
    "--cell", required=True, help="ALGORITHM/NAME of a cell, for instance reptile/published."
)
seeds_option = click.option(
    "--seeds", type=SeedBlock(), required=True, help="Block of seeds, for instance 0-9."
)
group_option = click.option("--group", required=True, help="Group of protocols.")
store_option = click.option(
    "--store", required=True, help="Name of the MLflow store, as the workflow found it."
)
tables_option = click.option(
    "--tables",
    "source",
    type=TABLES,
    required=True,
    help="Folder of tables, for instance results/reference/flux/tables.",
)
columns_option = click.option(
    "--columns",
    type=Words(),
    default="",
    help="Columns, separated by commas [default: all].",
)
where_option = click.option(
    "--where", default="", help="Condition on columns, as in pandas.DataFrame.query."
)


def kinds_option(
    *usual: str, more: tuple[str, ...]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that chooses kinds of files, of which some are usual."""
    return click.option(
        "--format",
        "kinds",
        type=click.Choice([*usual, *more]),
        multiple=True,
        default=list(usual),
        show_default=True,
        help="Kind of file; may be given several times.",
    )


form_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "markdown", "latex"]),
    default="text",
    show_default=True,
    help="What to print.",
)
