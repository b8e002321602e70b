"""Every command that a page shows is one: it parses, its target and its files exist.

Each is run by a test or says why not.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import click
import pytest
from small import ROOT
from snakemake.cli import get_argument_parser

from metabench.cli import main

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "config/*.md", "results/*.md")
    for path in ROOT.glob(pattern)
    if "generated" not in path.parts and path.name != "CHANGELOG.md"
)
TOOLS = ("make", "metabench", "snakemake", "pytest", "python")
OPENED = re.compile(r"^```[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4,}(\S.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
PLACEHOLDER = re.compile(r"\b(?:N|NAME|FILE|STUDY|name|mine|there|other)\b")
"""Words that stand for what a reader puts in."""


class Command(NamedTuple):
    """A command of a page.

    Args:
        words: Its words, the tool first.
        whole: Whether it is in a block, to be copied, and not in a sentence, where it may be short.
    """

    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return " ".join(self.words) + (" (to be copied)" if self.whole else "")


@cache
def commands() -> dict[Command, set[str]]:
    """Return every command of every page, with the pages that show it."""
    found: dict[Command, set[str]] = {}
    for page in PAGES:
        for command in shown(page.read_text(encoding="utf-8")):
            found.setdefault(command, set()).add(str(page.relative_to(ROOT)))
    return found


def shown(text: str) -> Iterator[Command]:
    """Yield the commands of a page."""
    blocks = [line for block in OPENED.findall(text) for line in block.splitlines()]
    prose = OPENED.sub("", text)
    for line in (*blocks, *INDENTED.findall(prose)):
        yield from command(line, whole=True)
    for code in INLINE.findall(INDENTED.sub("", prose)):
        yield from command(" ".join(code.split()), whole=False)


def command(line: str, whole: bool) -> Iterator[Command]:
    """Yield the command that a line is, if it is one of ours."""
    first = line.split(maxsplit=1)[0].removeprefix(".venv/bin/") if line.strip() else ""
    if first in TOOLS:
        words = shlex.split(line, comments=whole)
        yield Command((first, *words[1:]), whole)


def of(tool: str) -> pytest.MarkDecorator:
    """Give a test each command of a tool."""
    found = [one for one in commands() if one.words[0] == tool]
    return pytest.mark.parametrize("shown", found, ids=str)


RUN = {
    "metabench": "test_every_command_explains_itself_and_its_options",
    "metabench bank export": "test_every_format_says_the_same_and_twice_in_the_same_bytes",
    "metabench check-algorithm": "test_the_command_says_that_all_is_well",
    "metabench compare": "test_the_command_prints_it_and_writes_a_page",
    "metabench figures": "test_a_paper_has_a_caption_of_every_figure_and_a_screen_has_none",
    "metabench merge": "test_two_machines_give_what_one_would_have_given",
    "metabench plan": "test_plan_prints_cells_jobs_and_minutes_and_writes_nothing",
    "metabench predict": "test_predict_adapts_a_trained_theta_to_points_of_a_file",
    "metabench reference": (
        "test_it_has_tables_png_figures_and_provenance_and_replaces_what_was_there"
    ),
    "metabench report": "test_the_same_tables_give_the_same_page_in_another_process",
    "metabench track cells": "test_tracking_twice_adds_nothing",
    "metabench track study": "test_tracking_twice_adds_nothing",
    "metabench train": "test_a_finished_training_job_leaves_a_record_and_its_last_checkpoint",
    "metabench verify": "test_identical_tables_reach_every_level",
    "snakemake": "test_the_smoke_study_leaves_every_table_and_figure",
}
"""The test that runs a command, by how the command begins."""

NOT_RUN = {
    "make": "it would set up an environment first; what it would run is checked as the rest is",
    "metabench table": "it prints; test_every_format_is_a_choice_of_the_command tests the output",
    "metabench server": "it serves until it is stopped; `make test-server` runs it",
    "metabench ui": "it serves until it is stopped; tests of tracking serve in the same way",
    "pytest": "these are tests themselves",
    "python": "tests compare what they write with what is there",
}
"""Why no test runs a command, by how the command begins."""


@of("metabench")
def test_a_metabench_command_has_the_words_and_options_that_there_are(shown: Command) -> None:
    assert isinstance(parsed(shown), click.Command)


def parsed(shown: Command) -> click.Command:
    """Read a command line as click does, up to the point where files would be opened."""
    found: click.Command = main
    rest = list(shown.words[1:])
    while isinstance(found, click.Group) and rest and not rest[0].startswith("-"):
        inner = found.commands.get(rest[0])
        assert inner, f"{rest[0]} is no command"
        found, rest = inner, rest[1:]
    context = click.Context(found)
    given, left, _ = found.make_parser(context).parse_args(rest)
    assert not left
    for parameter in found.params:
        value = given.get(str(parameter.name))
        if isinstance(parameter.type, click.Choice) and value:
            for one in value if parameter.multiple else [value]:
                parameter.type.convert(one, parameter, context)
        assert value or not (shown.whole and parameter.required), parameter.name
    return found


@of("snakemake")
def test_a_snakemake_command_has_the_options_that_there_are(shown: Command) -> None:
    get_argument_parser().parse_args([PLACEHOLDER.sub("2", word) for word in shown.words[1:]])
    for word in shown.words:
        assert "/" not in word or not word.endswith(".yaml") or (ROOT / word).is_file(), word


@of("make")
def test_a_make_command_has_a_target_and_what_it_would_run_is_a_command(shown: Command) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in shown.words[1:]:
        name, _, value = word.partition("=")
        assert not value or f"$({name})" in makefile, f"the Makefile reads no {name}"
        if name == "STUDY" and not PLACEHOLDER.fullmatch(value):
            assert (ROOT / "config" / f"{value}.yaml").is_file(), value
    line = ["make", "--dry-run", "--no-print-directory", *shown.words[1:]]
    answer = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    for would in answer.stdout.replace("\\\n", " ").splitlines():
        for inner in command(would.partition(" > ")[0], whole=True):
            if inner.words[0] == "metabench":
                parsed(inner)


@pytest.mark.parametrize("target", ["smoke", "benchmark"])
def test_make_names_the_study_before_its_libraries_are_imported(target: str) -> None:
    line = ["make", "--dry-run", "--no-print-directory", target, "STUDY=smoke"]
    answer = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    first, _, rest = answer.stdout.partition(".venv/bin/metabench plan ")
    assert first.endswith('echo "reading the study smoke"\n') and "snakemake" in rest


@of("pytest")
def test_tests_that_a_page_names_are_there(shown: Command) -> None:
    paths = [word for word in shown.words if word.endswith(".py")]
    text = "".join((ROOT / path).read_text(encoding="utf-8") for path in paths)
    if "-k" in shown.words:
        for word in shown.words[shown.words.index("-k") + 1].split(" or "):
            assert re.search(rf"^def test_\w*{word}", text, re.MULTILINE), word


@of("python")
def test_a_script_that_a_page_names_is_there(shown: Command) -> None:
    assert (ROOT / shown.words[1]).is_file()


def test_every_command_is_run_by_a_test_that_exists_or_says_why_not() -> None:
    tests = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )
    for name in RUN.values():
        assert f"\ndef {name}(" in tests, name
    heads = {head(one) for one in commands()}
    assert heads == {*RUN, *NOT_RUN}, (
        "a command more or less; say which test runs it, or why none does"
    )


def head(shown: Command) -> str:
    """Return what decides whether a command is run: its tool, and what metabench is told to do."""
    tool, *rest = shown.words
    words = [word for word in rest if not word.startswith("-")]
    if tool != "metabench" or not words or rest[0].startswith("-"):
        return tool
    inner = main.commands[words[0]]
    deep = words[:2] if isinstance(inner, click.Group) else words[:1]
    return " ".join([tool, *deep])
