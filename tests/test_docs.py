"""The documents tell the truth: keys, commands, links and numbers are those of the project."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from small import ROOT

from metabench.analysis import frames
from metabench.cli import main
from metabench.learning import algorithms, baselines, tasks
from metabench.study import config, plans
from metabench.study.config import StudyConfig
from metabench.views import headline

PAGES = sorted(
    path
    for path in ROOT.glob("**/*.md")
    if not {".venv", ".pytest_cache", "node_modules"} & set(path.parts)
)
REFERENCE = ROOT / "results" / "reference" / "flux" / "tables"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a study file as config/README.md spells it, with its default.

    A key that several families of tasks have stands once.
    """
    for name, field in model.model_fields.items():
        inner = [
            part
            for part in _types(field.annotation)
            if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        mark = {"cells": "cells[].", "protocols": "protocols.NAME."}.get(name, f"{prefix}{name}.")
        if name == "published":
            yield f"{prefix}{name}", None
        if inner:
            yield from {key: found for part in inner for key, found in keys(part, mark)}.items()
        else:
            yield f"{prefix}{name}", field


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _types(part)


def documented() -> dict[str, str]:
    """Return the keys and defaults that config/README.md lists."""
    rows = re.findall(
        r"^\| `([^`]+)` \|([^|]*)\|", (ROOT / "config" / "README.md").read_text(), re.MULTILINE
    )
    return {key: default.strip() for key, default in rows if not key.endswith(".yaml")}


def test_every_key_of_a_study_file_is_documented_and_no_other() -> None:
    assert set(documented()) == {key for key, _ in keys(StudyConfig)}


def test_the_documented_defaults_are_the_defaults() -> None:
    rows = documented()
    for key, field in keys(StudyConfig):
        if key == "tasks.family":  # which has no default where the section is given
            assert rows[key] == "required", key
        elif field is None or (not field.is_required() and field.default is None):
            assert rows[key] == "", key
        elif field.is_required():
            assert rows[key] == "required", key
        else:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert rows[key].replace("1.0e-4", "0.0001") == str(default).replace("'", ""), key


BASELINES = sorted(
    {name for family in tasks.FAMILIES.values() for name in baselines.names(family())}
)


def test_the_families_of_tasks_agree_on_the_defaults_of_the_keys_that_they_share() -> None:
    for first, second in combinations(tasks.FAMILIES.values(), 2):
        for name in (first.model_fields.keys() & second.model_fields.keys()) - {"family"}:
            assert first.model_fields[name].default == second.model_fields[name].default, name


@pytest.mark.parametrize("name", [*algorithms.NAMES, *BASELINES])
def test_every_algorithm_and_baseline_has_an_entry(name: str) -> None:
    text = (ROOT / "docs" / "algorithms.md").read_text()
    assert f"`{name}`" in text


@pytest.mark.parametrize("name", algorithms.NAMES)
def test_every_algorithm_names_its_reference(name: str) -> None:
    assert re.search(r"References?: ", algorithms.load(name).__doc__ or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_names_exist(page: Path) -> None:
    text, makefile = page.read_text(), (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"
    for command in re.findall(r"(?:^|`|/)metabench ([a-z]+(?:-[a-z]+)*)", text, re.MULTILINE):
        assert command in main.commands, f"{page.name}: metabench {command}"


def test_the_tutorial_builds_its_file_in_under_40_lines() -> None:
    source = (ROOT / "examples" / "prox.py").read_text()
    assert f"```python\n{source}```" in (ROOT / "docs" / "tutorial.md").read_text()
    assert len(source.splitlines()) < 40


def test_the_documented_costs_are_those_of_the_published_cells() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| (\d+) \| (\d+) \| (\d+) \|$",
        (ROOT / "docs" / "algorithms.md").read_text(),
        re.MULTILINE,
    )
    study = config.load(ROOT / "config" / "algorithms.yaml")
    costs = {
        cell.algorithm: tuple(cell.cost) for cell in plans.cells(study) if cell.role == "published"
    }
    assert {name: tuple(map(int, cost)) for name, *cost in rows} == costs
    assert set(costs) == set(algorithms.NAMES)


def test_where_the_algorithms_stand_is_what_the_committed_tables_say() -> None:
    table = headline.markdown(
        frames.read(ROOT / "results" / "reference" / "algorithms" / "tables", "leaderboard.csv")
    )
    assert table in (ROOT / "docs" / "algorithms.md").read_text()


def test_the_results_in_the_readme_are_those_of_the_committed_tables() -> None:
    text = (ROOT / "README.md").read_text()
    table = headline.markdown(frames.read(REFERENCE, "leaderboard.csv"))
    assert table in text


def test_every_number_of_the_readme_that_compares_is_in_the_committed_tables() -> None:
    """Differences in the prose are spelled `-0.123 [-0.456, -0.0789]` and must be a row of
    comparisons.csv.
    """
    rows = frames.read(REFERENCE, "comparisons.csv")
    spelled = {f"{r.difference:.3g} [{r.lower:.3g}, {r.upper:.3g}]" for r in rows.itertuples()}
    prose = re.sub(r"^\|.*$", "", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    text, number = re.sub(r"\s+", " ", prose), r"-?[\d.]+(?:e[+-]\d+)?"
    found = re.findall(rf"{number} \[{number}, {number}\]", text)
    assert found and set(found) <= spelled, set(found) - spelled


def test_every_fault_that_is_said_to_be_answered_has_a_test_that_exists() -> None:
    rows = re.findall(
        r"^\| (?!fault)(.+) \|$", (ROOT / "docs" / "reliability.md").read_text(), re.MULTILINE
    )
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) > 20
    for row in rows:
        *said, named = row.split(" | ")
        assert len(said) == 3 and (found := re.fullmatch(r"`(test_\w+)`", named)), row
        assert f"\ndef {found[1]}(" in tests, found[1]
