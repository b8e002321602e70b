"""The columns of tables: their type and their meaning.

Columns that several tables share are declared here. A column of only one table is declared in the
file of that table. A test compares both with the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

TEXT, NUMBER, COUNT, FLAG = "text", "number", "count", "flag"
"""The types of columns: words, real numbers, whole numbers, and yes or no."""


class Column(NamedTuple):
    """The declaration of a column.

    Args:
        type: One of the types above.
        meaning: In words.
    """

    type: str
    meaning: str


KEYS = {
    "algorithm": Column(
        TEXT, "Name of the algorithm, or of a baseline or predictions, which have no cell."
    ),
    "cell": Column(
        TEXT,
        "Name of the cell; cells.csv gives its hyperparameters. `-` for baselines and predictions.",
    ),
    "role": Column(
        TEXT,
        "published (the original source's values), grid, equal-budget (published values at another "
        "algorithm's budget), baseline, predictions (of another program); in comparisons the kind "
        "of pair: published, selected or equal-budget.",
    ),
    "seed": Column(COUNT, "The replicate."),
    "protocol": Column(TEXT, "The evaluation setting."),
    "group": Column(TEXT, "Name of a group of protocols."),
    "axis": Column(TEXT, "A key of protocols, or of their tasks, that varies within the group."),
    "step": Column(
        TEXT,
        "Which step size adaptation uses: own (the algorithm's: inner_step_size, or what it "
        "learned, or none where it takes no gradient steps), common (the study's), tuned (chosen "
        "by each run on the validation bank), none (baselines and predictions).",
    ),
    "region": Column(
        TEXT,
        "Part of the query grid: all, seen (inside the support interval), unseen (outside it); or "
        "its quarters by distance to the nearest support point, from nearest to farthest.",
    ),
    "update": Column(COUNT, "Gradient steps taken on the support set, from 0."),
    "x": Column(NUMBER, "Point at which the wave is evaluated."),
    "y": Column(NUMBER, "Label of a support point, or value of the task at x."),
    "prediction": Column(NUMBER, "Prediction at x; of a distribution, its mean."),
    "task": Column(COUNT, "Number of the task in the test bank."),
    "loss": Column(NUMBER, "Mean squared error on the region's grid points."),
}

COORDINATES = {
    "x1": Column(NUMBER, "First coordinate of that point, if x has several."),
    "x2": Column(NUMBER, "Second coordinate of that point."),
}
"""Columns instead of x where tasks have several inputs."""

QUARTERS = ("nearest", "near", "far", "farthest")
"""The quarters of the query grid, as `metabench.learning.held_out` names them."""

ORACLE = "least-squares"
"""A baseline that knows the basis functions of the tasks: not a contender, and on no axis."""

JUDGED = ("own", "tuned")
"""The step sizes by which a cell is judged: the first that it has, else the first by name."""

HYPERPARAMETERS = {
    "meta_iterations": Column(COUNT, "Number of outer updates."),
    "meta_step_size": Column(NUMBER, "Size of the outer update."),
    "meta_batch_size": Column(COUNT, "Tasks per meta-iteration."),
    "shots": Column(
        COUNT, "Support points of each inner step (of each outer step, for joint training)."
    ),
    "inner_steps": Column(COUNT, "Gradient steps on each task in training."),
    "inner_step_size": Column(NUMBER, "Size of those steps, or what learned sizes began with."),
    "queries": Column(COUNT, "Fresh query points of each task in training; empty: the grid."),
    "context": Column(
        COUNT, "Numbers that adapt or that describe a task (CAVIA, conditional neural process)."
    ),
    "meta_optimizer": Column(TEXT, "Rule of the outer update: sgd, plain descent, or adam."),
    "meta_schedule": Column(
        TEXT, "How the outer step size decays over training: constant, linear or cosine."
    ),
    "inner_optimizer": Column(TEXT, "Rule of the inner steps: sgd or adam."),
    "meta_clip": Column(
        NUMBER, "Bound at which each number of the outer gradient is clipped; empty: none."
    ),
    "inner_clip": Column(
        NUMBER, "Bound at which each number of an inner gradient is clipped; empty: none."
    ),
}
"""The hyperparameters of the package's algorithms. A study may have more, in cells.csv."""

VARIED = {
    "hidden": Column(TEXT, "Widths of the hidden layers, if cells differ in them."),
    "activation": Column(TEXT, "Activation of the network, if cells differ in it."),
    "initialization": Column(TEXT, "Initialization of the weights, if cells differ in it."),
    "training_tasks": Column(
        COUNT, "Number of training tasks, if cells differ in it; empty: unlimited."
    ),
}

COSTS = {
    "tasks_seen": Column(COUNT, "Tasks that training drew, for each run."),
    "gradient_evaluations": Column(
        COUNT, "Gradients of one task's loss over one batch of points, for each run."
    ),
    "point_gradients": Column(
        COUNT, "Points whose gradient was computed, for each run: the unit of the budget."
    ),
}

NO_INTERVAL = (
    "A mean loss has none where an adaptation diverged, where one seed or task has more than half "
    "of the sum, or with two to four seeds."
)

SCORES = {
    "score": Column(
        NUMBER,
        "Mean over seeds and tasks of the score: the loss over that of predicting zero on the same "
        "points, at most 1.",
    ),
    "score_lower": Column(NUMBER, "Lower end of its interval over seeds and tasks."),
    "score_upper": Column(NUMBER, "Upper end of it."),
    "failed": Column(NUMBER, "Share of adaptations with the score 1: no better than zero."),
}

STATISTICS = SCORES | {
    "mean": Column(
        NUMBER,
        "Mean over all seeds and tasks, inf if one of them is; in curves.parquet over tasks.",
    ),
    "mean_lower": Column(
        NUMBER,
        "Lower end of the mean's interval over seeds and tasks (over tasks alone where seeds is "
        f"0). {NO_INTERVAL}",
    ),
    "mean_upper": Column(NUMBER, "Upper end of it."),
    "mean_finite": Column(NUMBER, "Mean over the finite losses alone; `finite` counts them."),
    "finite": Column(
        COUNT, "How many losses are finite, of seeds * tasks (of tasks, where seeds is 0)."
    ),
    "median": Column(
        NUMBER,
        "Median over all seeds and tasks, diverged adaptations counting as inf; in curves.parquet "
        "over tasks.",
    ),
    "median_lower": Column(
        NUMBER, "Lower end of the median's interval; at a protocol's last update only."
    ),
    "median_upper": Column(NUMBER, "Upper end of it."),
    "iqm": Column(NUMBER, "Interquartile mean, diverged adaptations counting as inf."),
    "iqm_lower": Column(NUMBER, "Lower end of its interval; at a protocol's last update only."),
    "iqm_upper": Column(NUMBER, "Upper end of it."),
    "p95": Column(NUMBER, "95th percentile, diverged adaptations counting as inf."),
    "diverged_share": Column(
        NUMBER, "Share of adaptations whose loss is not finite or above the divergence limit."
    ),
    "seeds": Column(
        COUNT, "Training seeds behind the row; 0 for baselines and predictions without seeds."
    ),
    "tasks": Column(COUNT, "Test tasks behind the row."),
}

MEASURES = ("score", "score_lower", "score_upper", "failed", "mean", "median")
"""The statistics that cells are compared by, in the order in which a leaderboard shows them."""

CHOSEN = {name: f"chosen_{name}" for name in MEASURES}
"""Their columns for the number of updates that validation selects."""

CHOICE = {
    "step_size": Column(
        NUMBER,
        "Step size of adaptation; in the leaderboard its median over runs. What learned sizes "
        "began with.",
    ),
    "validation_loss": Column(NUMBER, "Mean loss over the validation bank."),
    "validation_score": Column(
        NUMBER,
        "Mean score over seeds and the validation bank after `updates` updates.",
    ),
    "updates": Column(
        COUNT,
        "Number of updates that validation chooses for this cell, of those that are measured.",
    ),
    "selected": Column(
        FLAG,
        "Whether validation selects this cell of its algorithm, for this protocol and step.",
    ),
    "frequency": Column(NUMBER, "Share of resamples of the seeds that select this cell."),
    "on_edge": Column(
        TEXT,
        "Step sizes of the selected cell that lie on an edge of the grid: a better one may lie "
        "outside.",
    ),
    "held_out_score": Column(
        NUMBER,
        "Mean test score of each seed under the cell that the other seeds select: free of the "
        "winner's curse. On the selected cell's row.",
    ),
}

SHARED = KEYS | HYPERPARAMETERS | COSTS | STATISTICS | CHOICE
"""The columns that more than one table has."""


def of_x(features: int) -> list[str]:
    """Return the columns that hold an x with a given number of features.

    Example:
        >>> of_x(1), of_x(2)
        (['x'], ['x1', 'x2'])
    """
    return ["x"] if features == 1 else [f"x{n + 1}" for n in range(features)]


def with_whole_counts(table: pd.DataFrame, own: Mapping[str, Column]) -> pd.DataFrame:
    """Return a table whose counts are whole numbers, even where some are missing.

    Otherwise pandas turns a count with an empty field into a float, and large ones lose digits.

    Args:
        table: Any table.
        own: The columns that no other table has.
    """
    known = {**SHARED, **own}
    counts = [name for name in table if name in known and known[name].type == COUNT]
    return table.astype(dict.fromkeys(counts, "Int64"))


def precedence(step: str) -> tuple[int, str]:
    """Return the sort key of step sizes: that of the size by which a cell is judged is the least.

    Example:
        >>> sorted(["fixed 0.05", "tuned", "common", "own"], key=precedence)
        ['own', 'tuned', 'common', 'fixed 0.05']
    """
    return (JUDGED.index(step) if step in JUDGED else len(JUDGED)), step


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table at the step sizes by which cells are judged."""
    first = table.sort_values("step", key=lambda steps: steps.map(precedence), kind="stable")
    return table.loc[first.drop_duplicates(["algorithm", "cell", "protocol"]).index.sort_values()]
