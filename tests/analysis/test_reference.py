"""The committed reference results: complete, consistent with known values, and the source of the
figures.
"""

from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small import FLUX, ROOT

from metabench.analysis import frames, reduction, tables
from metabench.records import manifests
from metabench.study import config
from metabench.study.jobs import Study
from metabench.views import figures
from metabench.views.drawing import medium, style
from metabench.views.drawing.reading import Tables

REFERENCE = ROOT / "results" / "reference" / "flux"
STUDIES = sorted(path.parent.parent.name for path in REFERENCE.parent.glob("*/tables/cells.csv"))


def losses(algorithm: str, protocol: str) -> pd.Series:
    """Return a seedless baseline's loss on each test task, over the whole grid."""
    table = frames.read(REFERENCE / "tables", "tasks.parquet")
    wanted = (
        (table["algorithm"] == algorithm)
        & (table["protocol"] == protocol)
        & (table["region"] == "all")
    )
    return table[wanted]["loss"].astype(np.float64)


def test_the_reference_is_the_default_study_in_full() -> None:
    study = Study(config.load(FLUX))
    runs = frames.read(REFERENCE / "tables", "runs.csv")
    kept = {path.name for path in (REFERENCE / "tables").iterdir()}
    assert {Path(name).stem for name in kept} == {
        Path(name).stem for name in (*tables.names(study.config), manifests.NAME)
    }
    assert set(reduction.made(REFERENCE / "tables")) == set(tables.names(study.config))
    assert len(runs) == len(study.cells) * study.config.seeds == 230
    assert set(runs["cell"]) == {cell.name for cell in study.cells}
    assert set(frames.read(REFERENCE / "tables", "leaderboard.csv")["tasks"]) == {1000}


def test_some_cells_diverged_and_show() -> None:
    runs = frames.read(REFERENCE / "tables", "runs.csv")
    board = frames.read(REFERENCE / "tables", "leaderboard.csv")
    key = ["algorithm", "cell"]  # a name is its algorithm's own
    diverged = pd.MultiIndex.from_frame(runs.loc[runs["status"] == "diverged", key])
    lost = board[board["runs_diverged"] > 0]
    assert len(diverged) and set(diverged) == set(pd.MultiIndex.from_frame(lost[key]))
    assert np.isinf(lost["mean"]).all()


def without_interval(folder: Path) -> pd.Series:
    """Return whether the mean loss of each row of the leaderboard must have no interval.

    Of protocols whose losses the reference does not have of all tasks, nothing is said.
    """
    keys = ["algorithm", "cell", "protocol", "step"]
    losses = frames.read(folder, "tasks.parquet").query("region == 'all'")
    board = frames.read(folder, "leaderboard.csv").set_index(keys)
    kept = losses.groupby("protocol", observed=True)["task"].nunique()
    whole = [
        name for name, count in kept.items() if count == board.xs(name, level=2)["tasks"].max()
    ]
    losses = losses[losses["protocol"].isin(whole)].astype({key: str for key in keys})
    total = losses.groupby(keys)["loss"].sum()
    shares = {
        margin: losses.groupby([*keys, margin])["loss"].sum().groupby(level=keys).max() / total
        for margin in ("seed", "task")
    }
    seeds = losses.groupby(keys)["seed"].nunique()
    return (
        (shares["task"] > 0.5)
        | ((shares["seed"] > 0.5) & (seeds > 1))
        | seeds.between(2, 4)
        | (board["diverged_share"].reindex(total.index) > 0)
        | ~np.isfinite(total)
    )


@pytest.mark.parametrize("study", STUDIES)
def test_exactly_the_means_that_losses_do_not_determine_have_no_interval(study: str) -> None:
    folder = REFERENCE.parent / study / "tables"
    none = without_interval(folder)
    board = frames.read(folder, "leaderboard.csv").set_index(list(none.index.names))
    found = board["mean_lower"].reindex(none.index)
    assert len(none) and (found.isna() == none).all(), found[found.isna() != none]


@pytest.mark.parametrize("protocol", ["standard", "robustness"])
def test_the_zero_predictor_scores_half_the_mean_squared_amplitude(protocol: str) -> None:
    x = losses("zero", protocol)
    assert abs(x.mean() - 4.2517) < 3 * x.std() / sqrt(len(x))  # E[A^2]/2, A uniform on [0.1, 5]


@pytest.mark.parametrize("protocol", ["standard", "robustness"])
def test_least_squares_is_at_rounding_level(protocol: str) -> None:
    assert losses("least-squares", protocol).max() < 1e-20


@pytest.mark.parametrize(("protocol", "expected"), [("standard", 0.115), ("robustness", 1.93)])
def test_the_gaussian_process_scores_what_is_known_of_it(protocol: str, expected: float) -> None:
    """The expected figures are means over 4000 other tasks, so that both samples have an error."""
    x = losses("gaussian-process", protocol)
    error = x.std() * sqrt(1 / len(x) + 1 / 4000)
    assert abs(x.mean() - expected) < 3 * error


def test_the_committed_figures_are_those_of_the_committed_tables(tmp_path: Path) -> None:
    """All by name; of each family the first and the last by its bytes."""
    tables = Tables(REFERENCE / "tables")
    pictures = figures.of_tables(tables)
    kept = REFERENCE / "figures"
    names = {f"{picture.stem}.png" for picture in pictures}
    assert names | {manifests.NAME} == {path.name for path in kept.iterdir()}
    families: dict[str, list[figures.Picture]] = {}
    for picture in pictures:
        families.setdefault(picture.family.key, []).append(picture)
    with medium.settings():
        for first, *others in families.values():
            for picture in (first, *others[-1:]):
                style.save(picture.draw(tables), tmp_path / picture.stem)
                name = f"{picture.stem}.png"
                assert (tmp_path / name).read_bytes() == (kept / name).read_bytes(), name
