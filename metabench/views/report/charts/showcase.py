"""One wave before and after adaptation."""

from __future__ import annotations

import altair as alt
import pandas as pd

from metabench.views.drawing.reading import Tables
from metabench.views.report.charts.parts import Chart, Control, chart, colours, parameters

SHOWN_SEEDS = 3
"""The most seeds whose predictions a report contains."""


def showcase(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the chart of one wave before and after adaptation."""
    rows = tables["showcase.csv"]
    rows = rows[rows["protocol"].isin(choice.values)]
    if not len(rows) or "x" not in rows:
        return None  # in two dimensions it is a map: see the figures
    rows = rows[rows["seed"] < SHOWN_SEEDS]
    first = rows.groupby(["algorithm", "protocol"])["cell"].transform("min")
    data = _predictions(tables, rows[rows["cell"] == first])
    names = sorted(rows["algorithm"].unique())
    styles = pd.DataFrame(
        {"label": tables.styles[name].line, "colour": tables.styles[name].colour} for name in names
    )
    who = Control("algorithm", "algorithm", tuple(sorted(styles["label"])))
    when = Control("when", "predictions", ("after", "before"))
    base = (
        alt.Chart(data)
        .transform_filter("datum.protocol == protocol && datum.label == algorithm")
        .transform_calculate(y="datum[when]")
        .encode(x=alt.X("x:Q", title="x"))
    )
    truth = (
        base.transform_filter("datum.seed == 0")
        .mark_line(strokeDash=[2, 2], color="black")
        .encode(y=alt.Y("truth:Q", title="y").scale(zero=False))
    )
    curve = base.mark_line(clip=True).encode(
        y="y:Q",
        color=colours(styles).legend(None),
        detail="seed:N",
        opacity=alt.condition("datum.seed == 0", alt.value(1), alt.value(0.35)),
        tooltip=["label", "seed", "x", "y:Q"],
    )
    points = (
        alt.Chart(_points(tables, choice.values))
        .transform_filter("datum.protocol == protocol")
        .mark_point(filled=True, color="black", size=60)
        .encode(x="x:Q", y="y:Q", tooltip=["x", "y"])
    )
    return chart(
        "showcase",
        "One wave",
        f"Predictions for one wave by the first of {min(SHOWN_SEEDS, rows['seed'].nunique())} "
        "seeds (the others faint), before adaptation and after a protocol's last update, of the "
        "published cell or else the selected one; algorithms with a step size of their own adapt "
        "with it, others with the study's common one. The dotted line is the wave, the points are "
        "the support points; a curve ends where it leaves the chart. This is an illustration: no "
        "conclusion is based on it. Tables: showcase.csv, points.csv.",
        (choice, who, when),
        (truth + curve + points).add_params(*parameters(choice, who, when)),
        height=280,
    )


def _predictions(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of each seed, and the wave; a gap where one leaves the picture."""
    most = 2 * float(rows["truth"].abs().max())
    labels = {name: style.line for name, style in tables.styles.items()}
    heights = rows[["truth", "before", "after"]]
    shown = heights.where(heights.abs() < most).round(3)
    points = rows[["protocol", "seed", "x"]].round({"x": 3})
    return points.assign(label=rows["algorithm"].map(labels), **shown)


def _points(tables: Tables, protocols: tuple[str, ...]) -> pd.DataFrame:
    points = tables["points.csv"]
    return points[points["protocol"].isin(protocols)].round(3)
