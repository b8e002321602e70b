import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small

from metabench.analysis.tables.columns import COLUMNS
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError
from metabench.views import figures
from metabench.views.figures import (
    adaptation,
    gallery,
    names,
    step_sizes,
    style,
    task_losses,
    validation_curves,
)
from metabench.views.figures import showcase as showcase_figure
from metabench.views.figures.lines import lines
from metabench.views.figures.reading import Tables

SEEDS, TASKS = 3, 40
PROTOCOLS = {"standard": 4, "robustness": 3}  # updates
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


def steps(algorithm: str) -> list[str]:
    return ["common", "tuned"] if algorithm in ("joint", "random") else ["own", "common"]


def regions(protocol: str) -> list[str]:
    return ["all", "seen", "unseen"] if protocol == "robustness" else ["all"]


def statistics(loss: float, diverged: int, last: bool) -> dict[str, Any]:
    found = {"median": loss / 2, "diverged_share": diverged / SEEDS, "seeds": SEEDS, "tasks": TASKS}
    found |= (
        {"mean": np.inf, "mean_lower": np.nan, "mean_upper": np.nan}
        if diverged
        else {"mean": loss, "mean_lower": 0.8 * loss, "mean_upper": 1.3 * loss}
    )
    ends = {"median_lower": 0.4 * loss, "median_upper": 0.7 * loss} if last else {}
    return {**found, "median_lower": np.nan, "median_upper": np.nan, **ends}


def adaptation_rows() -> list[dict[str, Any]]:
    rows = []
    for protocol, updates in PROTOCOLS.items():
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
    about = [
        {
            "cell": c,
            "selected": c in ("f3", "r1", "j1", "n1", "a1"),
            "runs_ok": SEEDS - d,
            "runs_diverged": d,
            **costs(i),
        }
        for _, c, *_, i, d in CELLS
    ]
    settings = cells()[["cell", "meta_step_size", "inner_step_size"]]
    table = table.merge(pd.DataFrame(about), how="left", on="cell").merge(
        settings, how="left", on="cell"
    )
    return table.assign(selected=table["selected"].eq(True))


def history() -> pd.DataFrame:
    rows = []
    for algorithm, cell, *_, iterations, diverged in CELLS:
        for seed in range(SEEDS):
            for i in range(0, iterations + 1, 100):
                loss = np.inf if seed < diverged and i > 100 else 6 / (1 + i / 100) + 0.1 * seed
                head = {"algorithm": algorithm, "cell": cell, "seed": seed, "meta_iteration": i}
                rows.append({**head, **costs(i), "validation_loss": loss})
    return pd.DataFrame(rows)


def task_rows() -> pd.DataFrame:
    spread = np.geomspace(0.01, 10, TASKS)
    frames = []
    for protocol in PROTOCOLS:
        for algorithm, cell, *_, diverged in CELLS:
            step = "own" if "own" in steps(algorithm) else "tuned"
            for seed in range(SEEDS):
                losses = np.full(TASKS, np.inf) if seed < diverged else spread
                frames.append(
                    pd.DataFrame(
                        {
                            "algorithm": algorithm,
                            "cell": cell,
                            "seed": seed,
                            "step": step,
                            "protocol": protocol,
                            "loss": losses,
                        }
                    )
                )
        for name in ("zero", "gaussian-process", "least-squares"):
            frames.append(
                pd.DataFrame(
                    {
                        "algorithm": name,
                        "cell": "-",
                        "seed": -1,
                        "step": "none",
                        "protocol": protocol,
                        "loss": spread,
                    }
                )
            )
    return (
        pd.concat(frames).assign(region="all").astype({"algorithm": "category", "loss": "float32"})
    )


def comparisons() -> pd.DataFrame:
    pair = {
        "algorithm_a": "fomaml",
        "cell_a": "f1",
        "step_a": "own",
        "algorithm_b": "reptile",
        "cell_b": "r1",
        "step_b": "own",
        "region": "all",
        "update": 4,
        "attainable_p": 0.25,
    }
    known = {"difference": -0.4, "lower": -0.6, "upper": -0.2, "p_value": 0.25, "p_holm": 0.5}
    lost = {
        "difference": -np.inf,
        "lower": np.nan,
        "upper": np.nan,
        "p_value": 0.25,
        "p_holm": np.nan,
    }
    wins = {"probability_of_improvement": 0.7, "probability_lower": 0.4, "probability_upper": 0.9}
    return pd.DataFrame(
        [
            {**pair, **wins, **found, "role": role, "protocol": protocol}
            for protocol in PROTOCOLS
            for role, found in (("published", known), ("equal-budget", lost))
        ]
    )


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small study's tables, as the contract has them, with diverged runs."""
    where = tmp_path_factory.mktemp("tables")
    adapted = pd.DataFrame(adaptation_rows())
    with np.errstate(divide="ignore"):
        pictures, points = showcase()
    tables = {
        "adaptation": adapted,
        "cells": cells(),
        "leaderboard": leaderboard(adapted),
        "history": history(),
        "comparisons": comparisons(),
        "showcase": pictures,
        "points": points,
    }
    for name, table in tables.items():
        assert set(table) <= set(COLUMNS)
        table.to_csv(where / f"{name}.csv", index=False)
    task_rows().to_parquet(where / "tasks.parquet", index=False)
    manifests.write(where, [path.name for path in where.iterdir()], {"kind": "tables"})
    return where


@pytest.fixture(scope="module")
def tables(folder: Path) -> Tables:
    return Tables(folder)


@pytest.fixture(scope="module")
def drawn(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return figures.draw_all(folder, tmp_path_factory.mktemp("first"))


def published(tables: Tables, algorithm: str) -> str:
    return str(style.styles([algorithm])[algorithm].label)


def test_the_files_are_exactly_those_that_the_names_promise(drawn: list[Path]) -> None:
    stems = figures.figure_names(["anil", "fomaml", "joint", "random", "reptile"], list(PROTOCOLS))
    assert len(set(stems)) == len(stems)
    assert {path.name for path in drawn[0].parent.iterdir()} == {
        manifests.NAME,
        *(f"{s}.{kind}" for s in stems for kind in ("png", "svg")),
    }
    assert set(manifests.read(drawn[0].parent)["files"]) == {path.name for path in drawn}


def test_tables_of_other_bytes_than_their_manifest_says_are_not_drawn(
    folder: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    (changed / "history.csv").write_text((folder / "history.csv").read_text().replace("0", "1"))
    with pytest.raises(ArtifactError, match=r"history\.csv is damaged or was changed"):
        figures.draw_all(changed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_tables_give_the_same_bytes(
    folder: Path, drawn: list[Path], tmp_path: Path
) -> None:
    """In another process, with another hash seed and the user's own matplotlib settings."""
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 20\n")
    code = (
        "import sys; from pathlib import Path; from metabench.views.figures import draw_all;"
        f"draw_all(Path({str(folder)!r}), Path({str(tmp_path / 'again')!r})); print('torch' in sys.modules)"
    )
    environment = {"MPLCONFIGDIR": str(tmp_path), "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"  # no torch
    for path in drawn:
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_nothing_in_a_file_tells_when_or_with_which_version_it_was_drawn(drawn: list[Path]) -> None:
    for path in drawn:
        content = path.read_bytes()
        assert b"dc:date" not in content
        assert b"matplotlib.org/" not in content.replace(b"http://matplotlib.org/\n", b"")


def test_every_progress_step_is_one_figure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[None] = []
    monkeypatch.setattr(
        figures, "figure_names", lambda algorithms, protocols: ["equal_budget", "comparisons"]
    )
    assert (
        len(figures.draw_all(folder, tmp_path, lambda: steps.append(None))) == 2 * len(steps) == 4
    )


def test_names_need_neither_matplotlib_nor_pandas() -> None:
    code = "import sys, metabench.views.figures.names; print({'matplotlib', 'pandas', 'numpy'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "set()"
    )


def test_every_figure_has_an_entry_in_the_report_and_a_caption() -> None:
    captions = small.ROOT / "workflow" / "report" / "figures"
    used = set()
    for stem in figures.figure_names(["reptile", "under_scored"], ["standard", "one-shot"]):
        category, labels, caption = figures.report_entry(stem)
        assert category and labels
        used.add(caption)
    assert {path.name for path in captions.iterdir()} == used
    assert figures.report_entry("showcase_under_scored_one-shot")[1] == {
        "algorithm": "under_scored",
        "protocol": "one-shot",
    }
    with pytest.raises(ValueError, match="no figure is called 'nothing'"):
        names.family_of("nothing")


def test_every_algorithm_has_a_colour_and_marker_of_its_own() -> None:
    found = style.styles([*style.KNOWN, *(f"new{n}" for n in range(12))])
    assert (
        len({look.colour.lower() for look in found.values()}) == len(found) == len(style.KNOWN) + 12
    )
    known = [found[name] for name in style.KNOWN]
    assert len({look.marker for look in known}) == len(known)


def test_an_algorithm_keeps_its_colour_when_others_join() -> None:
    assert style.styles(["fomaml"])["fomaml"] == style.styles(["anil", "fomaml", "zzz"])["fomaml"]


def test_bands_are_the_tables_intervals(tables: Tables) -> None:
    axes = adaptation.draw(tables, "standard", "mean").axes[0]
    colour = tables.styles["fomaml"].colour
    row = tables.rows("adaptation.csv", protocol="standard", region="all", cell="f1", step="own")
    band = next(
        b
        for b in axes.collections
        if len(b.get_paths()) and _hex(b.get_facecolor()[0]) == colour.lower()
    )
    vertices = {(round(x, 9), round(y, 9)) for x, y in band.get_paths()[0].vertices}
    for end in ("mean_lower", "mean_upper"):
        assert set(zip(row["update"].round(9), row[end].round(9), strict=True)) <= vertices


def _hex(colour: Any) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour[:3])


def test_bars_of_the_median_are_the_tables_intervals_after_the_last_update(tables: Tables) -> None:
    axes = adaptation.draw(tables, "standard", "median").axes[0]
    row = tables.rows(
        "adaptation.csv", protocol="standard", region="all", cell="f1", step="own", update=4
    ).iloc[0]
    bars = [segment for bar in axes.collections for segment in bar.get_segments()]
    assert any(
        np.allclose(bar[:, 1], [row["median_lower"], row["median_upper"]]) and bar[0, 0] > 4
        for bar in bars
    )


@pytest.mark.parametrize("statistic", names.STATISTICS)
def test_updates_start_at_zero_and_losses_are_logarithmic(tables: Tables, statistic: str) -> None:
    axes = adaptation.draw(tables, "robustness", statistic).axes[0]
    assert axes.get_xlim()[0] == 0
    assert axes.get_yscale() == "log"
    assert axes.get_lines()[0].get_xdata()[0] == 0
    assert task_losses.draw(tables, "standard").axes[0].get_xscale() == "log"
    assert {panel.get_yscale() for panel in validation_curves.draw(tables).axes} == {"log"}


def test_least_squares_is_on_no_axis(tables: Tables) -> None:
    assert "least-squares" not in {line.algorithm for line in lines(tables, "standard")}
    assert adaptation.draw(tables, "standard", "mean").axes[0].get_ylim()[0] > 0.01


def test_the_selected_cell_is_dashed_beside_the_published_one(tables: Tables) -> None:
    mine = [line for line in lines(tables, "standard") if line.algorithm == "fomaml"]
    assert [(line.cell, line.look["linestyle"] == "-") for line in mine] == [
        ("f1", True),
        ("f3", False),
    ]
    yardstick = [
        (line.cell, line.step) for line in lines(tables, "standard") if line.algorithm == "joint"
    ]
    assert yardstick == [("j1", "common"), ("j1", "tuned")]


def test_a_diverged_cell_shows_in_the_loss_curves(tables: Tables) -> None:
    figure = adaptation.draw(tables, "standard", "mean")
    label = published(tables, "reptile")
    assert f"{label}\n(33.3 % diverged)" in figure.axes[0].get_legend_handles_labels()[1]
    marks = [line for line in figure.axes[0].get_lines() if "arrow" in str(line.get_marker())]
    assert {mark.get_color() for mark in marks} == {tables.styles["reptile"].colour}


def test_a_diverged_cell_is_annotated_in_the_heat_map(tables: Tables) -> None:
    figure = step_sizes.draw(tables, "standard")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert f"diverged\n2/{SEEDS}" in texts
    assert f"diverged\n1/{SEEDS}" in texts  # published, and framed like any other
    assert any("★" in text for text in texts)
    assert any(patch.get_hatch() for axes in figure.axes for patch in axes.patches)


def test_infinite_losses_count_in_the_distribution(tables: Tables) -> None:
    axes = task_losses.draw(tables, "standard").axes[0]
    line = next(
        line
        for line in axes.get_lines()
        if str(line.get_label()).startswith(published(tables, "reptile"))
    )
    assert max(line.get_ydata()) == pytest.approx(2 / 3, abs=1 / len(task_losses.SHARES))
    assert "33.3 % off the axis" in str(line.get_label())


def test_a_diverged_seed_is_marked_in_the_validation_curve(tables: Tables) -> None:
    axes = validation_curves.draw(tables).axes[0]
    colour = tables.styles["reptile"].colour
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert [(line.get_color(), line.get_xdata()[0]) for line in crosses] == [(colour, 100)]
    label = f"{published(tables, 'reptile')}\n(1 of {SEEDS} seeds diverged)"
    mean = next(line for line in axes.get_lines() if line.get_label() == label)
    assert (
        np.isfinite(np.asarray(mean.get_ydata(), dtype=float)).sum() == 2
    )  # never survivors alone


def test_a_diverged_seed_is_counted_in_the_showcase(tables: Tables) -> None:
    labels = (
        showcase_figure.draw(tables, "reptile", "standard").axes[0].get_legend_handles_labels()[1]
    )
    assert f"after fine-tuning\n(1 of {SEEDS} seeds diverged)" in labels


def test_a_study_without_special_cells_or_regions_still_has_every_figure(
    folder: Path, tmp_path: Path
) -> None:
    for path in (path for path in folder.iterdir() if path.name != manifests.NAME):
        table = Tables(folder)[path.name]
        gone = {
            "role": ["equal-budget"],
            "protocol": ["robustness"],
            "cell": ["r2"],
            "region": ["seen", "unseen"],
        }
        for column, values in gone.items():
            table = table[~table[column].isin(values)] if column in table else table
        write = table.to_parquet if path.suffix == ".parquet" else table.to_csv
        write(tmp_path / path.name, index=False)
    for stem in (
        "equal_budget",
        "robustness_regions",
        "comparisons",
        "validation_curves",
        "step_sizes_standard",
    ):
        written = style.save(gallery.draw(stem, Tables(tmp_path)), tmp_path / stem)
        assert len(written) == 2 and all(path.stat().st_size > 1000 for path in written)
