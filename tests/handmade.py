"""Tables made by hand, as figures read them: a small study with diverged runs, and grids."""

from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.columns import QUARTERS
from metabench.records import manifests
from metabench.views.drawing.reading import Fields

SEEDS, TASKS = 3, 40
PROTOCOLS = {"standard": 4, "robustness": 3}  # updates
GRIDS = {  # group: axis: values
    "points": {"shots": [5, 10, 20]},
    "where": {"support": ["-5 to 0", "0 to 5"]},
    "both": {"shots": [5, 10], "noise": [0.0, 0.5]},
}
FIELDS = Fields(
    ["standard"],
    list(GRIDS),
    noisy=["standard"],
    distant=["standard"],
    gridded=["standard"],
    curved=["standard"],
    budgeted=True,
)
"""What the figures of one protocol and all grids are about."""

CELLS = [  # algorithm, cell, role, inner and meta step size, meta-iterations, diverged seeds
    ("fomaml", "f1", "published", 0.02, 0.01, 400, 0),
    ("fomaml", "f2", "grid", 0.02, 0.1, 400, 2),
    ("fomaml", "f3", "grid", 0.01, 0.01, 400, 0),
    ("reptile", "r1", "published", 0.02, 0.1, 400, 1),
    ("reptile", "r2", "equal-budget", 0.02, 0.1, 1200, 0),
    ("joint", "j1", "published", np.nan, 0.01, 400, 0),
    ("random", "n1", "published", np.nan, np.nan, 0, 0),
    ("anil", "a1", "published", 0.02, 0.01, 400, 0),  # not known to the figures
]


def of_grids() -> dict[str, dict[str, tuple[int, Any]]]:
    """Return the protocols of grids by name, with the place and the value on each axis."""
    found = {}
    for group, axes in GRIDS.items():
        for point in product(*(enumerate(values) for values in axes.values())):
            values = dict(zip(axes, point, strict=True))
            place_name = ", ".join(f"{axis} {value}" for axis, (_, value) in values.items())
            found[f"{group} {place_name}"] = values
    return found


def axes() -> pd.DataFrame:
    """Return where each protocol of a grid lies."""
    return pd.DataFrame(
        {
            "group": protocol.partition(" ")[0],
            "protocol": protocol,
            "axis": axis,
            "place": place,
            "value": str(value),
            "number": np.nan if axis == "support" else value,
            "scale": "order" if axis == "support" else "linear",
        }
        for protocol, values in of_grids().items()
        for axis, (place, value) in values.items()
    )


def steps(algorithm: str) -> list[str]:
    return ["common", "tuned"] if algorithm in ("joint", "random") else ["own", "common"]


def regions(protocol: str) -> list[str]:
    parts = {"robustness": ["seen", "unseen"], "standard": list(QUARTERS)}
    return ["all", *parts.get(protocol, [])]


def statistics(loss: float, diverged: int, last: bool) -> dict[str, Any]:
    score = (min(loss / 4, 1) * (SEEDS - diverged) + diverged) / SEEDS
    ends = {"score_lower": 0.9 * score, "score_upper": min(1.2 * score, 1)}
    found = {"score": score, **ends, "failed": diverged / SEEDS}
    found |= {
        "median": loss / 2,
        "diverged_share": diverged / SEEDS,
        "seeds": SEEDS,
        "tasks": TASKS,
    }
    found |= (
        {"mean": np.inf, "mean_lower": np.nan, "mean_upper": np.nan}
        if diverged
        else {"mean": loss, "mean_lower": 0.8 * loss, "mean_upper": 1.3 * loss}
    )
    ends = {"median_lower": 0.4 * loss, "median_upper": 0.7 * loss} if last else {}
    return {**found, "median_lower": np.nan, "median_upper": np.nan, **ends}


def adaptation_rows() -> list[dict[str, Any]]:
    rows = []
    for protocol, updates in {**PROTOCOLS, **dict.fromkeys(of_grids(), 1)}.items():
        for region in regions(protocol):
            where = {"protocol": protocol, "region": region}
            for n, (algorithm, cell, role, *_, diverged) in enumerate(CELLS):
                for step in steps(algorithm):
                    head = {
                        "algorithm": algorithm,
                        "cell": cell,
                        "role": role,
                        "step": step,
                        **where,
                    }
                    for u in range(updates + 1):
                        rows.append(
                            {
                                **head,
                                "update": u,
                                **statistics(4 / (1 + n + u), diverged, u == updates),
                            }
                        )
            for name, loss in (("zero", 4.0), ("gaussian-process", 0.2), ("least-squares", 1e-31)):
                head = {"algorithm": name, "cell": "-", "role": "baseline", "step": "none", **where}
                rows.append({**head, "update": updates, **statistics(loss, 0, True), "seeds": 0})
    return rows


def costs(meta_iterations: int) -> dict[str, int]:
    return {
        "tasks_seen": 3 * meta_iterations,
        "gradient_evaluations": 6 * meta_iterations,
        "point_gradients": 180 * meta_iterations,
    }


def cells() -> pd.DataFrame:
    rows = [
        {
            "algorithm": a,
            "cell": c,
            "role": r,
            "meta_iterations": i,
            "meta_step_size": m,
            "inner_step_size": s,
            "shots": 10,
        }
        for a, c, r, s, m, i, _ in CELLS
    ]
    return pd.DataFrame(rows)


def leaderboard(adapted: pd.DataFrame) -> pd.DataFrame:
    last = adapted.groupby("protocol")["update"].transform("max")
    table = adapted[(adapted["update"] == last) & (adapted["region"] == "all")].drop(
        columns=["update", "region"]
    )
    descriptions = [
        {
            "cell": c,
            "selected": c in ("f3", "r1", "j1", "n1", "a1"),
            "runs_ok": SEEDS - d,
            "runs_diverged": d,
            **costs(i),
        }
        for _, c, *_, i, d in CELLS
    ]
    settings = cells().drop(columns=["algorithm", "role"])
    settings = settings.assign(validation_score=0.3)
    table = table.merge(pd.DataFrame(descriptions), how="left", on="cell").merge(
        settings, how="left", on="cell"
    )
    chosen = ("score", "score_lower", "score_upper", "failed", "mean", "median")
    table = table.assign(**{f"chosen_{name}": table[name] for name in chosen if name in table})
    return table.assign(selected=table["selected"].eq(True), updates=3)


def history() -> pd.DataFrame:
    rows = []
    for algorithm, cell, *_, iterations, diverged in CELLS:
        for seed in range(SEEDS):
            for i in range(0, iterations + 1, 100):
                loss = np.inf if seed < diverged and i > 100 else 6 / (1 + i / 100) + 0.1 * seed
                head = {"algorithm": algorithm, "cell": cell, "seed": seed, "meta_iteration": i}
                rows.append({**head, **costs(i), "validation_loss": loss})
    return pd.DataFrame(rows)


CONTENDERS = [("fomaml", "f3"), ("reptile", "r1"), ("joint", "j1"), ("gaussian-process", "-")]
"""Those of the selected cells, the best first."""

PUBLISHED = ("fomaml", "f1", "reptile", "r1")
"""A pair of published cells."""


def ranking() -> pd.DataFrame:
    rows = []
    for protocol in PROTOCOLS:
        for n, (algorithm, cell) in enumerate(CONTENDERS):
            place = {"role": "selected", "protocol": protocol, "algorithm": algorithm, "cell": cell}
            step = "none" if cell == "-" else "own"
            ends = {"rank": n + 1, "rank_lower": max(n, 1), "rank_upper": min(n + 2, 4)}
            rows.append({**place, "step": step, "updates": 3, "score": 0.1 * (n + 1), **ends})
    return pd.DataFrame(rows)


def profiles() -> pd.DataFrame:
    levels = np.geomspace(1e-6, 1, 13)
    found = []
    for row in ranking().itertuples():
        shares = np.minimum(np.linspace(0, 1.2, 13), 2 / 3 if row.algorithm == "reptile" else 1)
        place = {
            key: getattr(row, key) for key in ("role", "protocol", "algorithm", "cell", "step")
        }
        found.append(pd.DataFrame({"level": levels, "share": shares}).assign(**place))
    return pd.concat(found)


def trials() -> pd.DataFrame:
    return pd.DataFrame(
        {"algorithm": name, "protocol": protocol, "step": "own", "trials": n, "test_score": 0.5 / n}
        for protocol in PROTOCOLS
        for name, count in (("fomaml", 3), ("reptile", 1))
        for n in range(1, 1 + count)
    )


def selection() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "algorithm": name,
            "cell": f"{name[0]}{n + 1}",
            "protocol": protocol,
            "step": step,
            "validation_score": 0.5 / (n + 1),
            "selected": n + 1 == count,
        }
        for protocol in PROTOCOLS
        for name, count in (("fomaml", 3), ("reptile", 1), ("joint", 1), ("anil", 1))
        for step in ("own", "common")
        for n in range(count)
    )


def comparisons() -> pd.DataFrame:
    rows = []
    for protocol in PROTOCOLS:
        for a, b in combinations(range(len(CONTENDERS)), 2):
            sides = {
                f"{key}_{side}": value
                for side, n in (("a", a), ("b", b))
                for key, value in zip(("algorithm", "cell"), CONTENDERS[n], strict=True)
            }
            sure = {
                "difference": -0.2,
                "ratio": 0.5,
                "ratio_lower": 0.25,
                "ratio_upper": 0.8,
                "difference_lower": -0.3,
                "difference_upper": -0.1 if b - a > 1 else 0.1,
                # Whether the percentage is certain is not whether the difference is.
                "probability_of_improvement": 0.6 + 0.1 * (b - a),
                "probability_lower": 0.45 if b - a == 2 else 0.55,
                "probability_upper": 0.95,
            }
            place = {"role": "selected", "protocol": protocol, "region": "all"}
            rows.append({**place, **sides, **sure})
    sides = dict(zip(("algorithm_a", "cell_a", "algorithm_b", "cell_b"), PUBLISHED, strict=True))
    for n, protocol in enumerate(name for name in of_grids() if name.startswith("both ")):
        ends = {"difference": 0.1 * n, "difference_lower": 0.05 * n - 0.01, "difference_upper": n}
        place = {"role": "published", "protocol": protocol, "region": "all"}
        rows.append({**place, **sides, **ends})
    return pd.DataFrame(rows)


def showcase() -> tuple[pd.DataFrame, pd.DataFrame]:
    x = np.linspace(-5.5, 5.5, 23)
    frames = [
        pd.DataFrame(
            {"x": x, "truth": np.sin(x), "before": 0 * x, "after": np.cos(x) / (seed >= diverged)}
        ).assign(algorithm=algorithm, cell=cell, role=role, seed=seed, protocol=protocol)
        for algorithm, cell, role, *_, diverged in CELLS
        if role == "published"
        for protocol in PROTOCOLS
        for seed in range(SEEDS)
    ]
    points = [
        pd.DataFrame({"x": x[::5], "y": np.sin(x[::5])}).assign(protocol=protocol)
        for protocol in PROTOCOLS
    ]
    return pd.concat(frames), pd.concat(points)


def showcase_updates(pictures: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of the first seed along the updates."""
    first = pictures[pictures["seed"] == 0].drop(columns=["seed", "truth"])
    frames = [
        first.assign(update=update, prediction=first["before"] + part * first["after"])
        for update, part in ((0, 0.0), (1, 0.5), (2, 1.0))
    ]
    return pd.concat(frames).drop(columns=["before", "after"])


def gallery(pictures: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Return predictions on tasks of four percentiles; the worst have diverged."""
    curves = pictures[pictures["seed"] == 0].rename(columns={"truth": "y", "after": "prediction"})
    heads = curves[["algorithm", "cell", "role", "protocol", "seed"]].drop_duplicates()
    shots = points.assign(shot=points.groupby("protocol").cumcount()).merge(heads, on="protocol")
    rows = pd.concat([curves.drop(columns="before"), shots])
    worse = {5.0: 0.01, 50.0: 0.3, 95.0: 40.0, 99.9: np.inf}
    return pd.concat(
        rows.assign(percentile=percentile, task=7, loss=loss) for percentile, loss in worse.items()
    )


LEVELS = range(10, 100, 10)


def predictive() -> pd.DataFrame:
    """Return distributions of three algorithms and a baseline; one is far off, one diverged."""
    entrants = [
        ("fomaml", "f3", "grid", 0.4),
        ("reptile", "r1", "published", np.inf),
        ("anil", "a1", "published", 900.0),
        ("gaussian-process", "-", "baseline", 0.3),
    ]
    rows = []
    for protocol, (algorithm, cell, role, nll) in product(PROTOCOLS, entrants):
        ends = (nll - 0.05, nll + 0.05) if np.isfinite(nll) else (np.nan, np.nan)
        coverage = {f"coverage_{level}": (level / 100) ** (1 + nll / 9) for level in LEVELS}
        rows.append(
            {
                "algorithm": algorithm,
                "cell": cell,
                "role": role,
                "protocol": protocol,
                "region": "all",
                "nll": nll,
                "nll_lower": ends[0],
                "nll_upper": ends[1],
                "sharpness": 0.5,
                "calibration_error": 0.02,
                **coverage,
            }
        )
    return pd.DataFrame(rows)


def bands(pictures: pd.DataFrame) -> pd.DataFrame:
    """Return distributions of labels of the showcase wave, from its predictions."""
    first = pictures[(pictures["seed"] == 0) & pictures["algorithm"].isin(["fomaml", "reptile"])]
    columns = ["algorithm", "cell", "role", "seed", "protocol", "x"]
    return first[columns].assign(prediction=first["after"], deviation=0.3)


def tasks() -> pd.DataFrame:
    """Return losses on test tasks; one run diverged on one task."""
    rows = [
        {"algorithm": algorithm, "cell": cell, "seed": seed, "protocol": protocol, "task": task}
        for algorithm, cell, seeds in (("fomaml", "f3", 3), ("reptile", "r1", 3), ("zero", "-", 1))
        for protocol, seed, task in product(PROTOCOLS, range(seeds), range(TASKS))
    ]
    table = pd.DataFrame(rows).assign(region="all", step="own")
    loss = 0.1 + 0.01 * table["task"] + 0.02 * table["seed"] + 4.0 * (table["cell"] == "-")
    diverged = (table["cell"] == "r1") & (table["seed"] == 1) & (table["task"] == 7)
    return table.assign(loss=loss.where(~diverged, np.inf).astype("float32"))


def tables() -> dict[str, pd.DataFrame]:
    """Return every table that a figure or a chart reads, by its file name."""
    adapted = pd.DataFrame(adaptation_rows())
    with np.errstate(divide="ignore"):
        pictures, points = showcase()
    return {
        "adaptation.csv": adapted,
        "axes.csv": axes(),
        "cells.csv": cells(),
        "leaderboard.csv": leaderboard(adapted),
        "history.csv": history(),
        "comparisons.csv": comparisons(),
        "ranking.csv": ranking(),
        "profiles.csv": profiles(),
        "trials.csv": trials(),
        "selection.csv": selection(),
        "showcase.csv": pictures,
        "showcase_updates.csv": showcase_updates(pictures),
        "gallery.csv": gallery(pictures, points),
        "points.csv": points,
        "predictive.csv": predictive(),
        "tasks.parquet": tasks(),
        "bands.csv": bands(pictures),
    }


def write(found: dict[str, pd.DataFrame], folder: Path) -> Path:
    """Write tables and their manifest, and return the folder."""
    folder.mkdir(exist_ok=True)
    for name, table in found.items():
        if name.endswith(".parquet"):
            table.to_parquet(folder / name, index=False)
        else:
            table.to_csv(folder / name, index=False)
    manifests.write(folder, found, {"kind": "tables"})
    return folder


LOSSES = ("mean", "median", "validation_loss")
SCORES = ("score", "score_lower", "score_upper", "failed")
INTERVALS = ("mean_lower", "mean_upper", "median_lower", "median_upper")


def infinite() -> dict[str, pd.DataFrame]:
    """Return the tables of a study whose losses are all infinite."""
    found = tables()
    for table in found.values():
        for column in table.columns.intersection(LOSSES):
            table[column] = np.inf
        for column in table.columns.intersection(INTERVALS):
            table[column] = np.nan
        for column in table.columns.intersection(SCORES):
            table[column] = 1.0
    found["adaptation.csv"]["diverged_share"] = 1.0
    found["leaderboard.csv"]["diverged_share"] = 1.0
    found["showcase.csv"][["before", "after"]] = np.nan
    found["comparisons.csv"][["difference_lower", "difference_upper"]] = 0.0
    found["profiles.csv"]["share"] = 0.0
    found["predictive.csv"]["nll"] = np.inf
    found["predictive.csv"][["nll_lower", "nll_upper"]] = np.nan
    return found


def zero(algorithms: set[str]) -> dict[str, pd.DataFrame]:
    """Return the tables of a study in which the losses of some algorithms are exactly 0."""
    found = tables()
    for table in found.values():
        if "algorithm" in table:
            rows = table["algorithm"].isin(algorithms)
            for column in table.columns.intersection([*LOSSES, *INTERVALS, *SCORES]):
                table.loc[rows & table[column].notna(), column] = 0.0
    return found


def renamed(names: dict[str, str]) -> dict[str, pd.DataFrame]:
    """Return the tables with other names of algorithms, protocols or cells."""
    found = {}
    for name, table in tables().items():
        texts = {column: str for column in table if str(table[column].dtype) == "category"}
        found[name] = table.astype(texts).replace(names)
    return found


def grid(rows: list[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """Return what a figure of grids reads, under one protocol.

    Args:
        rows: A cell each: its algorithm, its role if that is not grid, its hyperparameters, and
            `steps`, the steps that it adapts with if it has none of its own. The score of the n-th
            is n / 20.
    """
    cells, board = [], []
    for n, row in enumerate(rows, 1):
        steps = row.pop("steps", ["own", "common"])
        name = ", ".join(f"{key} {value}" for key, value in row.items() if key != "algorithm")
        cell = {"cell": name, "role": "grid", **row}
        cells.append(cell)
        for step in steps:
            head = {**cell, "protocol": "standard", "step": step, "selected": n == 1}
            ends = {
                "score": n / 20,
                "median": n / 2,
                "failed": 0.0,
                "runs_ok": SEEDS,
                "runs_diverged": 0,
            }
            board.append({**head, **ends, "diverged_share": 0.0, "region": "all"})
    adapted = pd.DataFrame(board).assign(update=1, seeds=SEEDS, tasks=TASKS)
    return {
        "cells.csv": pd.DataFrame(cells),
        "leaderboard.csv": pd.DataFrame(board),
        "adaptation.csv": adapted,
    }
