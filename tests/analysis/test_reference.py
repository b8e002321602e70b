"""The committed reference results: complete, explained by what is known beforehand, and the source
of the figures.
"""

from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small import FLUX, ROOT

from metabench.analysis import frames, tables
from metabench.records import manifests
from metabench.study import config, plans
from metabench.views import figures

REFERENCE = ROOT / "results" / "reference" / "flux"


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
    study = config.load(FLUX)
    runs = frames.read(REFERENCE / "tables", "runs.csv")
    assert {path.name for path in (REFERENCE / "tables").iterdir()} == {
        *tables.NAMES,
        manifests.NAME,
    }
    assert len(runs) == len(plans.cells(study)) * study.seeds == 230
    assert set(runs["cell"]) == {cell.id for cell in plans.cells(study)}
    assert set(frames.read(REFERENCE / "tables", "leaderboard.csv")["tasks"]) == {1000}


def test_some_cells_diverged_and_show() -> None:
    runs = frames.read(REFERENCE / "tables", "runs.csv")
    board = frames.read(REFERENCE / "tables", "leaderboard.csv")
    diverged = set(runs.loc[runs["status"] == "diverged", "cell"])
    assert diverged and diverged == set(board.loc[board["runs_diverged"] > 0, "cell"])
    assert np.isinf(board.loc[board["cell"].isin(diverged), "mean"]).all()


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
    drawn = figures.draw_all(REFERENCE / "tables", tmp_path)
    assert {path.name for path in drawn} | {manifests.NAME} == {
        path.name for path in (REFERENCE / "figures").iterdir()
    }
    for path in drawn:
        assert path.read_bytes() == (REFERENCE / "figures" / path.name).read_bytes(), path.name
