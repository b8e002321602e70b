"""Published numbers beside ours: the table that docs/literature.yaml and the tables of finished studies make.

Each published number has its source. Theirs come with an interval over tasks of one model, or none; ours are means over
seeds and tasks with an interval over both, and the two are never mixed: a verdict compares them by rules written down
before the studies were run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from metabench import config, frames, manifests
from metabench.artifacts import ArtifactError
from metabench.fields import Count, Model, Positive

COLUMNS = {
    "source": "Who published the number.",
    "link": "Where.",
    "setting": "Of tasks, network and training, as docs/literature.md names them.",
    "method": "As the source calls it.",
    "trained": "Shots in training.",
    "tested": "Shots at test time.",
    "update": "Gradient steps at test time.",
    "published": "Mean squared error as printed in the source.",
    "published_lower": "Published minus its half width, where the source has one: over tasks of one model.",
    "published_upper": "Published plus its half width.",
    "study": "Our study.",
    "algorithm": "Our algorithm.",
    "cell": "Its cell.",
    "protocol": "Our protocol.",
    "step": "Our kind of step size.",
    "ours": "Our mean over seeds and tasks.",
    "ours_lower": "Lower end of its interval over both.",
    "ours_upper": "Upper end of it.",
    "ours_median": "Our median over seeds and tasks.",
    "diverged_share": "Share of our adaptations that diverged.",
    "verdict": "reproduced (intervals overlap, or the means are within the margin), better, worse, or not comparable.",
    "note": "What the source leaves open, or why it cannot be compared.",
}


class Ours(Model):
    """What of our studies stands beside a published number."""

    study: str
    algorithm: str
    where: dict[str, float | int | str] = Field(default={})
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
    ours: Ours

    @model_validator(mode="after")
    def _number_for_each_step(self) -> Self:
        if len(self.steps) != len(self.numbers):
            raise ValueError(f"numbers must be one for each of steps, got {len(self.numbers)} for {len(self.steps)}")
        return self


class Literature(Model):
    """The file."""

    margin: Annotated[float, Field(gt=1, le=10)]
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


def load(path: Path) -> Literature:
    """Read and check the file of published numbers; raise ConfigError as study files do."""
    return config.check(Literature, config.read(path), str(path))


def table(literature: Literature, reference: Path) -> pd.DataFrame:
    """Return a row for each published number.

    Args:
        literature: The published numbers.
        reference: The folder of finished studies, each with its tables.

    Raises:
        ArtifactError: A study is not there, or has no such cell, protocol or update.
    """
    found = [line for row in literature.rows for line in _lines(row, literature.margin, reference)]
    return pd.DataFrame(found)[list(COLUMNS)]


def _lines(row: Row, margin: float, reference: Path) -> Iterator[dict[str, Any]]:
    ours, folder = row.ours, reference / row.ours.study / "tables"
    manifests.read(folder)
    cell = _cell(frames.read(folder, "cells.csv"), ours, folder)
    curve = frames.read(folder, "adaptation.csv")
    where = {"algorithm": ours.algorithm, "cell": cell, "protocol": ours.protocol, "step": ours.step, "region": "all"}
    for column, value in where.items():
        curve = curve[curve[column] == value]
    for update, published in zip(row.steps, row.numbers, strict=True):
        at = curve[curve["update"] == update]
        if len(at) != 1:
            raise ArtifactError(f"{folder} has no update {update} of {where}")
        mine = at.iloc[0]
        half = row.plus_minus or np.nan
        line = {
            **{name: getattr(row, name) for name in ("source", "link", "setting", "method", "trained", "tested")},
            "update": update,
            "published": published,
            "published_lower": published - half,
            "published_upper": published + half,
            "study": ours.study,
            **{name: where[name] for name in ("algorithm", "cell", "protocol", "step")},
            "ours": mine["mean"],
            "ours_lower": mine["mean_lower"],
            "ours_upper": mine["mean_upper"],
            "ours_median": mine["median"],
            "diverged_share": mine["diverged_share"],
            "note": row.not_comparable or (f"assumed: {row.assumed}" if row.assumed else ""),
        }
        yield {**line, "verdict": "not comparable" if row.not_comparable else verdict(line, margin)}


def _cell(cells: pd.DataFrame, ours: Ours, folder: Path) -> str:
    """Return the one cell of an algorithm whose hyperparameters are those wanted."""
    found = cells[cells["algorithm"] == ours.algorithm]
    for name, value in ours.where.items():
        found = found[found[name] == value]
    if len(found) != 1:
        raise ArtifactError(
            f"{folder} must have one cell of {ours.algorithm} with {dict(ours.where)}, it has {len(found)}"
        )
    return str(found["cell"].iloc[0])


def verdict(line: Mapping[str, Any], margin: float) -> str:
    """Say how a published mean and ours stand to each other.

    reproduced: the intervals overlap, or the means are within the margin of each other. better and worse: ours is lower
    or higher than that. A published number without an interval is taken for a point.
    """
    published, ours = line["published"], line["ours"]
    ends = [published if np.isnan(end) else end for end in (line["published_lower"], line["published_upper"])]
    overlap = line["ours_lower"] <= ends[1] and ends[0] <= line["ours_upper"]
    if overlap or published / margin <= ours <= published * margin:
        return "reproduced"
    return "better" if ours < published else "worse"


def markdown(found: pd.DataFrame) -> str:
    """Return the table for a reader: published and ours with their intervals, and the verdict."""
    head = ["source", "setting", "method", "shots", "steps", "published", "ours [95 %], median", "verdict"]
    lines = [head, ["---"] * len(head)]
    for row in found.itertuples():
        half = "" if np.isnan(row.published_lower) else f" ± {row.published_upper - row.published:.2g}"
        diverged = f", {100 * row.diverged_share:.2g} % diverged" if row.diverged_share else ""
        ours = f"{_number(row.ours)} [{_number(row.ours_lower)}, {_number(row.ours_upper)}], {_number(row.ours_median)}"
        shots = f"{row.trained} / {row.tested}"
        note = f" ({row.note})" if isinstance(row.note, str) and row.note else ""
        source = f"[{row.source}]({row.link})"
        published = f"{row.published:g}{half}"
        lines.append(
            [source, row.setting, row.method, shots, str(row.update), published, ours + diverged, row.verdict + note]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1e4 else f"{value:.1e}"
