"""The documentation is correct: keys, commands, links and numbers are those of the project."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import covered
import declared
import numpy as np
import pandas as pd
import pytest
import small
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel
from small import ROOT

from metabench.analysis import frames
from metabench.learning import algorithms, baselines, tasks
from metabench.study import config, limits
from metabench.study.config import StudyConfig
from metabench.study.jobs import Study
from metabench.study.schema import Length, StudyProtocol
from metabench.views import headline

PAGES = sorted(
    path
    for path in ROOT.glob("**/*.md")
    if not {".venv", ".pytest_cache", "node_modules", "generated", "_build"} & set(path.parts)
)
REFERENCE = ROOT / "results" / "reference" / "flux" / "tables"


ENTRIES = {"protocols": StudyProtocol}
"""What the entries of a section are, where the section's own type does not say it."""

DEFAULTS = {"cells[].meta_iterations": Length.model_fields["meta_iterations"]}
"""The fields of keys that may be lists, where the group's own field does not say their default."""


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a study file as config/README.md spells it, with its field.

    Hyperparameters apart: each algorithm declares its own. A key that several families of tasks
    have stands once, with the field of the first.
    """
    for name, field in model.model_fields.items():
        inner = [ENTRIES[name]] if name in ENTRIES else list(_models(field.annotation))
        mark = {"cells": "cells[].", "protocols": "protocols.NAME."}.get(name, f"{prefix}{name}.")
        found: dict[str, Any] = {}
        for part in inner:
            for key, of_key in keys(part, mark):
                found.setdefault(key, of_key)
        yield from found.items()
        if not inner:
            yield f"{prefix}{name}", DEFAULTS.get(f"{prefix}{name}", field)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


CONFIG_PAGE = (ROOT / "config" / "README.md").read_text()


def documented() -> dict[str, tuple[str, str]]:
    """Return the keys that config/README.md lists, each with its default and its meaning."""
    section = CONFIG_PAGE.partition("\n## Keys\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \|([^|]*)\|([^|]*)\|$", section, re.MULTILINE)
    return {key: (default.strip(), meaning.strip()) for key, default, meaning in rows}


def test_every_key_of_a_study_file_is_documented_and_no_other() -> None:
    assert set(documented()) == {key for key, _ in keys(StudyConfig)}


def test_the_documented_defaults_are_the_defaults() -> None:
    rows = documented()
    for key, field in keys(StudyConfig):
        default, _ = rows[key]
        if key == "tasks.family" or field.is_required():  # needed where the section is given
            assert default == "required", key
        elif field.default is None:
            assert default == "", key
        else:
            value = _as_yaml(field.default)
            assert default.replace("1.0e-4", "0.0001") == str(value).replace("'", ""), key


def _as_yaml(default: Any) -> Any:
    if isinstance(default, bool):
        return str(default).lower()
    return list(default) if isinstance(default, tuple) else default


def test_every_key_of_one_family_alone_says_of_which() -> None:
    rows = documented()
    for name in {name for family in tasks.FAMILIES.values() for name in family.model_fields}:
        of = [family for family, model in tasks.FAMILIES.items() if name in model.model_fields]
        if len(of) == 1:
            assert rows[f"tasks.{name}"][1].startswith(f"{of[0]}: "), name


def test_a_family_whose_default_is_not_that_of_the_others_has_it_in_the_row_of_the_key() -> None:
    rows, first = documented(), dict(keys(StudyConfig))
    for family, model in tasks.FAMILIES.items():
        for name, field in model.model_fields.items():
            if name != "family" and field.default != first[f"tasks.{name}"].default:
                assert f"{family}: {_as_yaml(field.default)}" in rows[f"tasks.{name}"][1], name


def test_the_documented_hyperparameters_are_those_that_the_algorithms_declare() -> None:
    assert declared.page() == CONFIG_PAGE, "renew them: python tests/declared.py"


@pytest.mark.parametrize("name", algorithms.NAMES)
def test_every_hyperparameter_of_the_package_says_what_it_means(name: str) -> None:
    for key, field in algorithms.load(name).hyperparameters.model_fields.items():
        assert field.description and field.description.endswith("."), key


def test_the_grids_of_the_page_of_study_files_are_good_and_as_large_as_it_says() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", CONFIG_PAGE, re.DOTALL)
    study = small.flux(**yaml.safe_load(text)).check()
    assert "2 x 2 x 2 x 2 = 16 cells" in text and len(study.cells) == 16
    assert "2 x 2 x 2 = 8 protocols" in text and len(study.groups["shifted"]) == 8
    for protocol in re.findall(r"`(shifted[^`]*)`", " ".join(CONFIG_PAGE.split())):
        assert protocol in study.groups["shifted"]


def test_the_limits_of_a_study_are_documented() -> None:
    for limit in (limits.LARGEST, limits.JOBS, limits.PROTOCOLS, limits.EVALUATIONS):
        limit_text = str(limit) if limit < 10_000 else f"{limit:,}".replace(",", " ")
        assert limit_text in CONFIG_PAGE
    words = re.findall(r"`([a-z]+)`", CONFIG_PAGE)
    assert set(limits.NO_NAMES) <= set(words)


BASELINES = sorted(
    {name for family in tasks.FAMILIES.values() for name in baselines.names(family())}
)


@pytest.mark.parametrize("name", [*algorithms.NAMES, *BASELINES])
def test_every_algorithm_and_baseline_has_an_entry(name: str) -> None:
    text = (ROOT / "docs" / "algorithms.md").read_text()
    assert f"`{name}`" in text


@pytest.mark.parametrize("name", algorithms.NAMES)
def test_every_algorithm_names_its_reference(name: str) -> None:
    assert re.search(r"References?: ", algorithms.module(name).__doc__ or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_documented_costs_are_those_of_the_published_cells() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| (\d+) \| (\d+) \| (\d+) \|$",
        (ROOT / "docs" / "algorithms.md").read_text(),
        re.MULTILINE,
    )
    study = Study(config.load(ROOT / "benchmarks" / "workloads.yaml"))
    costs = {cell.algorithm: tuple(cell.cost) for cell in study.cells if cell.role == "published"}
    assert {name: tuple(map(int, cost)) for name, *cost in rows} == costs
    assert set(costs) == set(algorithms.NAMES)


def test_where_the_algorithms_stand_is_what_the_committed_tables_say() -> None:
    table = headline.markdown(
        frames.read(ROOT / "results" / "reference" / "algorithms" / "tables", "leaderboard.csv")
    )
    assert table in (ROOT / "docs" / "algorithms.md").read_text()


def test_the_results_of_the_default_study_are_those_of_the_committed_tables() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    table = headline.markdown(frames.read(REFERENCE, "leaderboard.csv"))
    assert table in text


CLAIMS = yaml.safe_load((ROOT / "docs" / "claims.yaml").read_text())


def rows_of(claim: dict[str, str]) -> pd.DataFrame:
    """Return the rows that a claim is about, of a study or of a benchmark."""
    part, _, name = claim["table"].partition("/")
    folder = ROOT / "results" / "reference" / part
    tables = folder / "tables" if (folder / "tables").exists() else folder
    return frames.read(tables, name).query(claim["rows"])


@pytest.mark.parametrize(
    "claim", CLAIMS, ids=[f"{n} {claim['says'][:60]}" for n, claim in enumerate(CLAIMS)]
)
def test_a_claim_holds_in_its_rows_and_stands_in_its_page(claim: dict[str, str]) -> None:
    """Broken on purpose, a claim fails: `rows` must find some, and `holds` be true of each."""
    rows = rows_of(claim)
    assert len(rows), "no row says anything of this"
    assert len(rows.query(claim["holds"])) == len(rows)
    page = " ".join((ROOT / claim["page"]).read_text().split())
    assert claim["says"].format(**rows.iloc[0]) in page


def test_whoever_is_called_indistinguishable_is_so_on_both_scales() -> None:
    """Differences show what rules the mean of scores, ratios what rules the typical task."""
    equal = [claim for claim in CLAIMS if "indistinguishable" in claim["says"]]
    conditions = ("difference_lower < 0 < difference_upper", "ratio_lower < 1 < ratio_upper")
    assert equal and all(part in claim["holds"] for claim in equal for part in conditions)


def test_the_readme_is_short_and_has_no_result_without_a_claim() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120 and not re.search(r"\d \[[\d-]", text)
    assert text.count("![") == 1, "further figures are on the pages that discuss them"


@pytest.mark.parametrize(
    "page",
    [
        "docs/results.md",
        "docs/algorithms.md",
        "docs/robustness.md",
        "docs/reading-a-report.md",
    ],
)
def test_every_interval_in_the_prose_of_a_page_is_a_claim(page: str) -> None:
    prose = re.sub(r"^\|.*$", "", (ROOT / page).read_text(), flags=re.MULTILINE)
    number = r"-?[\d.]+(?:e[+-]\d+)?"
    found = re.findall(rf"{number} \[{number}, {number}\]", re.sub(r"\s+", " ", prose))
    claimed = []
    for claim in CLAIMS:
        claimed.append(claim["says"].format(**rows_of(claim).iloc[0]))
    assert found and all(any(numbers in text for text in claimed) for numbers in found)


def test_every_finding_on_robustness_names_figures_that_exist() -> None:
    page = ROOT / "docs" / "robustness.md"
    findings = re.findall(r"^- \*\*.+?(?=^- \*\*|^#|^!\[|\Z)", page.read_text(), re.M | re.S)
    assert len(findings) > 20
    for finding in findings:
        links = re.findall(r"\]\((\S+\.png)\)", finding)
        assert links and all((page.parent / link).is_file() for link in links), finding


@pytest.fixture(scope="module")
def estimates() -> NDArray[np.float64]:
    """Every estimate of the committed tables with its interval, and its negative, ``(..., 3)``."""
    found = []
    reference = ROOT / "results" / "reference"
    names = ("leaderboard", "adaptation", "comparisons", "predictive", "breaking_points")
    for folder in [reference / "literature", *sorted(reference.glob("*/tables"))]:
        for name in (f"{name}.csv" for name in (*names, "literature")):
            if not frames.exists(folder, name):
                continue
            table = frames.read(folder, name)
            for column in table.columns:
                if f"{column}_lower" in table:
                    ends = [column, f"{column}_lower", f"{column}_upper"]
                    found.append(table[ends].to_numpy(float))
    every = np.concatenate(found)
    every = every[np.isfinite(every).all(-1)]
    return np.concatenate([every, -every[:, [0, 2, 1]]])


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_an_interval_of_a_page_is_in_a_committed_table(
    page: Path, estimates: NDArray[np.float64]
) -> None:
    number = r"-?[\d.]+(?:e[+-]\d+)?"
    prose = re.sub(r"\s+", " ", page.read_text())
    for text in re.finditer(rf"({number}) \[({number}), ({number})\]", prose):
        digits = max(len(re.sub(r"e.*|[-.]", "", part).lstrip("0")) for part in text.groups())
        rounding = ".3g" if digits > 2 else ".2g"
        wanted = [format(float(part), rounding) for part in text.groups()]
        near = estimates[np.isclose(estimates[:, 0], float(text[1]), rtol=0.06, atol=0)]
        assert any([format(end, rounding) for end in row] == wanted for row in near), text[0]


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", "config/README.md", "docs/robustness.md"]
)
def test_the_number_of_protocols_of_the_atlas_is_that_of_its_file(page: str) -> None:
    protocols = len(Study(config.load(ROOT / "config" / "flux-atlas.yaml")).protocols)
    stated = set(re.findall(r"(\d+) protocols", (ROOT / page).read_text()))
    assert str(protocols) in stated


def test_every_fault_that_is_said_to_be_answered_has_a_test_that_exists() -> None:
    rows = re.findall(
        r"^\| (?!fault)(.+) \|$", (ROOT / "docs" / "reliability.md").read_text(), re.MULTILINE
    )
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) > 20
    for row in rows:
        *cells, named = row.split(" | ")
        assert len(cells) == 3 and (found := re.fullmatch(r"`(test_\w+)`", named)), row
        assert f"\ndef {found[1]}(" in tests, found[1]


def test_the_coverage_on_the_page_is_what_was_measured():
    assert covered.PAGE.read_text(encoding="utf-8") == covered.page()
