"""Compare published numbers with ours, from literature.yaml and the tables of finished studies.

Each published number has its source. Theirs come with an interval over tasks of one model, or none;
ours are means over seeds and tasks with an interval over both, and the two are never mixed: a
verdict compares them by rules fixed before the studies were run. Variations change one thing in a
setting to see whether it explains a disagreement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from metabench.analysis import frames
from metabench.learning.fields import Count, Model, Positive
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError, Header
from metabench.records.provenance import code_digest, made_from
from metabench.study import config
from metabench.study.jobs import Study
from metabench.views import literature_markdown

ROWS = Path(__file__).with_suffix(".yaml")
"""The published numbers."""

NAME = "literature.csv"
"""The file of the table next to its figure."""

COLUMNS = {
    "source": "Who published the number.",
    "link": "Where.",
    "setting": "Setting of tasks, network and training, as named in docs/literature.md.",
    "method": "Name of the method in the source.",
    "trained": "Shots in training.",
    "tested": "Shots at test time.",
    "update": "Gradient steps at test time.",
    "published": "Mean squared error as printed in the source.",
    "published_lower": "Published minus its half width, if the source has one: "
    "over tasks of one model.",
    "published_upper": "Published plus its half width.",
    "study": "Our study.",
    "algorithm": "Our algorithm.",
    "cell": "Its cell.",
    "protocol": "Our protocol.",
    "step": "Our kind of step size.",
    "ours": "Our mean over seeds and tasks, plus the variance of the noise in the source's labels.",
    "ours_lower": "Lower end of its interval over both.",
    "ours_upper": "Upper end of its interval over both.",
    "ours_median": "Our median over seeds and tasks, against labels without noise.",
    "diverged_share": "Share of our adaptations that diverged.",
    "verdict": "reproduced (intervals overlap, or the means are within the margin), better, worse, "
    "or not comparable.",
    "note": "What the source leaves open, or why it cannot be compared.",
}
"""What each column of the table of published numbers means."""

VARIATION_COLUMNS = {
    "variation": "What is varied.",
    "case": "How.",
    **{
        name: COLUMNS[name] for name in ("study", "algorithm", "cell", "protocol", "step", "update")
    },
    **{
        name: COLUMNS[name]
        for name in ("ours", "ours_lower", "ours_upper", "ours_median", "diverged_share")
    },
}
"""What each column of the table of variations means."""


class Ours(Model):
    """The result of our studies that is compared with a published number."""

    study: str
    algorithm: str
    where: dict[str, bool | float | int | str] = Field(default={})
    step: str
    protocol: str


class Row(Model):
    """Published numbers of one method in one setting, by gradient steps."""

    source: str
    link: str
    setting: str
    method: str
    trained: Count
    tested: Count
    steps: Annotated[tuple[Count, ...], Field(min_length=1)]
    numbers: tuple[Positive, ...]
    plus_minus: Positive | None = None
    assumed: str = ""
    not_comparable: str = ""
    label_noise: Positive | None = None
    """Standard deviation of the noise in the labels that the source measures its error against.

    Ours are measured against noise-free labels, and its variance is added to them.
    """
    ours: Ours

    @model_validator(mode="after")
    def _number_for_each_step(self) -> Self:
        if len(self.steps) != len(self.numbers):
            raise ValueError(
                f"numbers must be one for each of steps, got {len(self.numbers)} for "
                f"{len(self.steps)}"
            )
        return self


class Case(Model):
    """One of the things that a variation compares."""

    case: str
    ours: Ours


class Variation(Model):
    """Cases that differ in one thing, after the same numbers of gradient steps."""

    variation: str
    steps: Annotated[tuple[Count, ...], Field(min_length=1)]
    cases: Annotated[tuple[Case, ...], Field(min_length=2)]


class Literature(Model):
    """The file."""

    margin: Annotated[float, Field(gt=1, le=10)]
    rows: tuple[Row, ...]
    variations: tuple[Variation, ...] = ()


def load(path: Path = ROWS) -> Literature:
    """Read and check the file of published numbers; raise ConfigError as study files do."""
    return config.check(Literature, config.read(path), str(path))


def covered(literature: Literature, study: Study) -> Literature:
    """Return the published numbers that a study, as configured, covers."""
    rows = tuple(row for row in literature.rows if _covers(study, row))
    return literature.model_copy(update={"rows": rows, "variations": ()})


def _covers(study: Study, row: Row) -> bool:
    """Return whether a study has the protocol and exactly one cell of a published number."""
    ours = row.ours
    if ours.study != study.name or ours.protocol not in study.protocols:
        return False
    found = [cell for cell in study.cells if cell.algorithm == ours.algorithm]
    for name, value in ours.where.items():
        found = [cell for cell in found if getattr(cell.hyperparameters, name, None) == value]
    return len(found) == 1 and max(row.steps) <= study.protocols[ours.protocol].updates


def header(literature: Literature, contents: Mapping[str, str]) -> Header:
    """Return the inputs of the tables and the figure.

    `contents` are the digests of each study's tables.
    """
    code = code_digest("metabench.views.literature", "metabench.views.drawing.literature")
    packages = ("matplotlib", "seaborn", "numpy", "pandas")
    return made_from(
        "literature", literature.model_dump(mode="json"), code, packages, tables=dict(contents)
    )


def studies_of(literature: Literature) -> list[str]:
    """Return the names of the studies that are compared with published numbers."""
    ours = [row.ours for row in literature.rows]
    ours += [case.ours for variation in literature.variations for case in variation.cases]
    return sorted({each.study for each in ours})


def table(literature: Literature, reference: Path) -> pd.DataFrame:
    """Return a row for each published number.

    Args:
        literature: The published numbers.
        reference: The folder of finished studies, each with its tables.

    Raises:
        ArtifactError: A study does not exist, or has no such cell, protocol or update.
    """
    found = [line for row in literature.rows for line in _lines(row, literature.margin, reference)]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _lines(row: Row, margin: float, reference: Path) -> Iterator[dict[str, Any]]:
    half = row.plus_minus or np.nan
    noise = (row.label_noise or 0.0) ** 2
    for published, ours in zip(row.numbers, _ours(row.ours, row.steps, reference), strict=True):
        ours |= {name: ours[name] + noise for name in ("ours", "ours_lower", "ours_upper")}
        line = {
            **{
                name: getattr(row, name)
                for name in ("source", "link", "setting", "method", "trained", "tested")
            },
            "published": published,
            "published_lower": published - half,
            "published_upper": published + half,
            "note": row.not_comparable or (f"assumed: {row.assumed}" if row.assumed else ""),
            **ours,
        }
        yield {**line, "verdict": "not comparable" if row.not_comparable else verdict(line, margin)}


def variations(literature: Literature, reference: Path) -> pd.DataFrame:
    """Return a row for each step of each case of each variation.

    Arguments and errors are those of `table`.
    """
    found = [
        {"variation": variation.variation, "case": case.case, **ours}
        for variation in literature.variations
        for case in variation.cases
        for ours in _ours(case.ours, variation.steps, reference)
    ]
    return pd.DataFrame(found, columns=list(VARIATION_COLUMNS))


def _ours(ours: Ours, steps: Sequence[int], reference: Path) -> Iterator[dict[str, Any]]:
    """Yield the results of a cell of a study after each of some numbers of gradient steps."""
    folder = reference / ours.study / "tables"
    manifests.read(folder)
    cell = _cell(frames.read(folder, "cells.csv"), ours, folder)
    curve = frames.read(folder, "adaptation.csv")
    where = {
        "algorithm": ours.algorithm,
        "cell": cell,
        "protocol": ours.protocol,
        "step": ours.step,
    }
    for column, value in {**where, "region": "all"}.items():
        curve = curve[curve[column] == value]
    for update in steps:
        at = curve[curve["update"] == update]
        if len(at) != 1:
            raise ArtifactError(f"{folder} has no update {update} of {where}")
        found = at.iloc[0]
        yield {
            "study": ours.study,
            **where,
            "update": update,
            "ours": found["mean"],
            "ours_lower": found["mean_lower"],
            "ours_upper": found["mean_upper"],
            "ours_median": found["median"],
            "diverged_share": found["diverged_share"],
        }


def _cell(cells: pd.DataFrame, ours: Ours, folder: Path) -> str:
    """Return the one cell of an algorithm with the given hyperparameters."""
    found = cells[cells["algorithm"] == ours.algorithm]
    for name, value in ours.where.items():
        found = found[found[name] == value]
    if len(found) != 1:
        raise ArtifactError(
            f"{folder} must have one cell of {ours.algorithm} with {dict(ours.where)}, it has "
            f"{len(found)}"
        )
    return str(found["cell"].iloc[0])


def verdict(line: Mapping[str, Any], margin: float) -> str:
    """Return the verdict on a published mean and ours.

    reproduced: the intervals overlap, or the means are within the margin of each other. better and
    worse: ours is lower or higher than that. A published number without an interval counts as a
    point.
    """
    published, ours = line["published"], line["ours"]
    ends = [
        published if np.isnan(end) else end
        for end in (line["published_lower"], line["published_upper"])
    ]
    overlap = line["ours_lower"] <= ends[1] and ends[0] <= line["ours_upper"]
    if overlap or published / margin <= ours <= published * margin:
        return "reproduced"
    return "better" if ours < published else "worse"


def write_all(known: Literature, studies: Path, out: Path) -> str:
    """Write the tables, the figure and their manifest; return the tables in Markdown.

    Args:
        known: Published numbers.
        studies: The folder of finished studies.
        out: Where to write.
    """
    from metabench.views.drawing import literature as drawing
    from metabench.views.drawing import medium, style

    contents = {
        name: manifests.read(studies / name / "tables")["content"] for name in studies_of(known)
    }
    found = table(known, studies)
    files, text = [out / NAME], literature_markdown.table(found)
    frames.write(found, files[0])
    if known.variations:
        varied = variations(known, studies)
        files.append(out / "variations.csv")
        frames.write(varied, files[-1])
        text += f"\n\n{literature_markdown.variations(varied)}"
    with medium.settings():
        files += style.save(drawing.draw(found), out / "literature")
    manifests.write(out, [file.name for file in files], header(known, contents))
    return text
