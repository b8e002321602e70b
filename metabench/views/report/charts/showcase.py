"""One wave along the updates of adaptation."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from metabench.views.drawing.reading import Tables
from metabench.views.report.charts.parts import (
    Chart,
    Control,
    Source,
    chart,
    colours,
    parameters,
)

ALONG = "showcase_updates.csv"

EACH = 2
"""One of this many points of a curve is shown."""


def showcase(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the chart of one wave along the updates."""
    if ALONG not in tables:
        return None  # in two dimensions predictions are maps: see the figures
    rows = tables[ALONG]
    rows = rows[rows["protocol"].isin(choice.values)]
    if not len(rows):
        return None
    first = rows.groupby(["algorithm", "protocol"])["cell"].transform("min")
    truth = tables.rows("showcase.csv", seed=0)[["protocol", "x", "truth"]].drop_duplicates()
    updates = sorted(rows["update"].unique())
    most = 2 * float(truth["truth"].abs().max())
    data = pd.DataFrame(_curves(tables, rows[rows["cell"] == first], updates, most))
    styles = data.drop_duplicates("label")
    who = Control("algorithm", "algorithm", tuple(sorted(styles["label"])))
    when = Control("position", "updates", tuple(map(str, updates)), _reached(rows, updates))
    base = alt.Chart(data).transform_filter(
        "datum.protocol == protocol && datum.label == algorithm"
    )
    x = alt.X("x:Q", title="x").axis(format="~g")
    before = (
        base.transform_calculate(y="datum.along[0]")
        .mark_line(strokeDash=[4, 3], strokeWidth=1, color="#6e6e6e")
        .encode(x=x, y="y:Q")
    )
    curve = (
        base.transform_calculate(y="datum.along[position]")
        .mark_line(clip=True)
        .encode(x=x, y="y:Q", stroke=colours(styles).legend(None), tooltip=["label", "x", "y:Q"])
    )
    wave = (
        alt.Chart(truth.round(3))
        .transform_filter("datum.protocol == protocol")
        .mark_line(strokeDash=[2, 2], color="black")
        .encode(x=x, y=alt.Y("truth:Q", title="y").scale(domain=[-most, most]))
    )
    points = (
        alt.Chart(_points(tables, choice.values))
        .transform_filter("datum.protocol == protocol")
        .mark_point(filled=True, color="black", size=60)
        .encode(x=x, y="y:Q", tooltip=["x", "y"])
    )
    cells = data.drop_duplicates(["label", "protocol"]).drop(columns="along")
    name = (
        alt.Chart(cells)
        .transform_filter("datum.protocol == protocol && datum.label == algorithm")
        .mark_text(align="left", baseline="bottom", dy=-4)
        .encode(x=alt.value(0), y=alt.value(0), text="cell")
    )
    return chart(
        "showcase",
        "One wave",
        "Predictions for one wave by the first seed of the cell that is named above: published, or "
        "selected if the study compares selected cells. "
        "Move the slider from before adaptation (dashed grey) to the protocol's last update. "
        "Algorithms with a step size of their own adapt with it, others with the study's common "
        "one. The dotted line is the wave, the points are the support points; a curve ends where "
        "it leaves the chart. This is an illustration: no conclusion is based on it.",
        Source("1 seed × 1 task", (ALONG, "showcase.csv", "points.csv")),
        (choice, who, when),
        (wave + before + curve + points + name).add_params(*parameters(choice, who, when)),
        height=280,
    )


def _reached(rows: pd.DataFrame, updates: list[int]) -> dict[str, list[str]]:
    """Return the update at each position of the slider: none is beyond its protocol's last."""
    last = rows.groupby("protocol")["update"].max()
    return {
        str(name): [str(min(update, most)) for update in updates] for name, most in last.items()
    }


def _curves(
    tables: Tables, rows: pd.DataFrame, updates: list[int], most: float
) -> Iterator[dict[str, Any]]:
    """Yield a row for each point of a curve, with the prediction at each position of the slider.

    Beyond the last update of a protocol the last prediction stays, and there is a gap where one
    leaves the picture.
    """
    for (algorithm, protocol), mine in rows.groupby(["algorithm", "protocol"]):
        style = tables.styles[str(algorithm)]
        curves = mine.pivot(index="x", columns="update", values="prediction")
        found = [bisect(list(curves.columns), update) - 1 for update in updates]
        place = {"protocol": protocol, "label": style.line, "colour": style.colour}
        place["cell"] = mine["cell"].iloc[0]
        for x, values in zip(curves.index[::EACH], curves.to_numpy()[::EACH], strict=True):
            along = [round(float(values[n]), 2) if abs(values[n]) < most else None for n in found]
            yield {**place, "x": round(float(x), 2), "along": along}


def _points(tables: Tables, protocols: tuple[str, ...]) -> pd.DataFrame:
    points = tables["points.csv"]
    return points[points["protocol"].isin(protocols)].round(3)
