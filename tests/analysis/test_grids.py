"""Tables and figures of a study with grids of protocols that evaluates what another trained."""

import copy
import json
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small

from metabench import jobs
from metabench.analysis import frames, measured, tables
from metabench.analysis.statistics.estimates import cvar
from metabench.analysis.tables import axes
from metabench.analysis.tables.breaking_points import breaks
from metabench.learning.scores import scores
from metabench.records import running
from metabench.records.artifacts import ArtifactError
from metabench.records.layout import Layout
from metabench.study import protocols
from metabench.study.config import ConfigError
from metabench.views import figures
from metabench.views.drawing.grids import Grid
from metabench.views.drawing.reading import Tables
from metabench.views.figures import grids

CELLS = [
    small.short_fomaml(30, 0.01),
    {
        "algorithm": "joint",
        "meta_iterations": 5,
        "meta_batch_size": 1,
        "shots": 5,
        "meta_step_size": 0.01,
    },
]
ONE = {"shots": 5, "support": [-5.0, 5.0], "updates": 2, "gaussian_process_length_scale": 2.0}
GRIDS = {
    "robustness": {**ONE, "support": [0.0, 5.0]},
    "shots": {**ONE, "shots": [1, 5, 20], "steps": ["own"]},
    "steps": {**ONE, "steps": [["own x 0.25"], ["own"], ["own x 16"]]},
    "fixed": {**ONE, "steps": [0.05]},
    "noise": {**ONE, "noise": [0.5, 1.0]},
    "where": {**ONE, "support": [[-5.0, 0.0], [0.0, 5.0]]},
    "both": {
        **ONE,
        "tasks": {"amplitude": [[0.1, 1.0], [1.0, 5.0]], "frequency": [[0.5, 1.0], [1.0, 2.0]]},
    },
    "three": {**ONE, "shots": [2, 5], "support": [[-5.0, 0.0], [0.0, 5.0]], "updates": [1, 2]},
}


def source() -> dict[str, Any]:
    """The study that trains."""
    return small.tiny(
        study="source",
        cells=copy.deepcopy(CELLS),
        protocols={"robustness": GRIDS["robustness"]},
        validation={"tasks": 5, "interval": 20},
    )


def atlas(**changes: Any) -> dict[str, Any]:
    """The study of grids."""
    return source() | {"study": "atlas", "trained_in": "source", "protocols": GRIDS} | changes


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Both studies in a folder of their own, the second evaluated on what the first trained."""
    folder = tmp_path_factory.mktemp("grids")
    (folder / "config").mkdir()
    for content in (source(), atlas()):
        (folder / "config" / f"{content['study']}.yaml").write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        whole = running.read("source")
        whole.write()
        for cell, seeds in whole.study.train_jobs:
            jobs.train(whole, cell, seeds)
        started = running.read("atlas")
        started.write()
        for cell, group, seeds in started.study.evaluate_jobs:
            jobs.evaluate(started, cell, group, seeds)
        for group in started.study.groups:
            jobs.baselines(started, group)
        study = measured.read(running.read("atlas"))
        tables.write_all(study, started.layout.tables)
    return SimpleNamespace(
        folder=folder,
        study=study,
        started=started,
        table=cache(lambda name: frames.read(folder / "results/atlas/tables", name)),
    )


def test_nothing_is_trained_where_another_study_has_trained_it(done: SimpleNamespace) -> None:
    assert not (done.folder / "results/atlas/train").exists()
    assert not (done.folder / "results/atlas/checkpoints").exists()
    assert len(list((done.folder / "results/source/train").rglob("*.safetensors"))) == 2
    assert (
        "trained_in" in json.loads((done.folder / "results/atlas/study.json").read_text())["study"]
    )


def test_the_other_study_is_in_the_same_folder_of_results(
    done: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(done.folder / "results", tmp_path / "benchmarks" / "results")
    monkeypatch.chdir(tmp_path)
    results = Path("benchmarks/results")
    started = running.Running.start(small.study(atlas()), results)
    assert started.layout == Layout(results / "atlas", "source")
    assert started.layout.training == results / "source"


@pytest.fixture
def elsewhere(done: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the settings of both studies, in which a test stands."""
    shutil.copytree(done.folder / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


OTHERWISE = {
    "another network": ({"network": {"hidden": [9]}}, "trains the cell .* with other network"),
    "other tasks": ({"tasks": {"family": "sine", "noise": 0.1}}, "with other tasks"),
    "another validation": (
        {"validation": {"tasks": 6, "interval": 20}},
        "trains the cell fomaml .* with other validation",
    ),
    "a cell that it lacks": ({"cells": [small.RANDOM]}, "does not train the cell random untrained"),
    "seeds that it lacks": ({"seeds": 4}, "trains the seeds 0-1, and not 2-3"),
    "itself": ({"trained_in": "atlas"}, "trained_in must be another study, got 'atlas'"),
    "a study that is trained elsewhere": ({"study": "third", "trained_in": "atlas"}, "name that"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_the_other_study_trains_otherwise_is_refused_in_a_line(
    elsewhere: Path, name: str
) -> None:
    changes, message = OTHERWISE[name]
    path = elsewhere / "config" / "mine.yaml"
    path.write_text(json.dumps(atlas(**changes)))
    with pytest.raises(ConfigError, match=message):
        running.read(path)


def test_a_study_that_is_trained_in_none_that_is_there_is_refused(elsewhere: Path) -> None:
    (elsewhere / "config" / "source.yaml").unlink()
    with pytest.raises(ArtifactError, match="unknown study 'source'"):
        running.read("atlas")


def test_axes_say_what_varies_and_how_to_draw_it(done: SimpleNamespace) -> None:
    table = done.table("axes.csv")
    assert list(table["group"].unique()) == ["shots", "steps", "noise", "where", "both", "three"]
    shots = table[table["group"] == "shots"]
    assert list(shots["protocol"]) == ["shots 1", "shots 5", "shots 20"]
    assert list(shots["number"]) == [1, 5, 20] and set(shots["scale"]) == {"log"}
    steps = table[table["group"] == "steps"]
    assert list(steps["value"]) == ["own x 0.25", "own", "own x 16"]
    assert list(steps["number"]) == [0.25, 1, 16]
    where = table[table["group"] == "where"]
    assert list(where["value"]) == ["-5 to 0", "0 to 5"] and set(where["scale"]) == {"order"}
    both = table[table["group"] == "both"]
    assert list(both["axis"].unique()) == ["amplitude", "frequency"] and len(both) == 8
    assert done.started.study.grids == list(table["group"].unique())


def test_the_values_of_an_axis_are_named_as_in_protocols() -> None:
    assert axes._value_text([0.0, 5.0]) == "0 to 5"
    assert axes._value_text([7, 8]) == "7 and 8"
    assert axes._value_text(["own", "fixed 0.05"]) == "own and fixed 0.05"


def test_an_axis_is_a_key_whose_values_differ() -> None:
    study = small.study(small.tiny(protocols={"robustness": ONE, "x": {**ONE, "shots": [5]}}))
    assert study.grids == [] and protocols.axes(study.groups["x"]) == {}


def test_a_protocol_with_a_step_size_of_its_own_alone_has_every_table(
    done: SimpleNamespace,
) -> None:
    losses = done.table("tasks.parquet")
    found = losses[losses["protocol"].astype(str).str.startswith("fixed")]
    assert set(found["step"]) == {"fixed 0.05", "none"}


def test_the_tail_is_the_mean_of_the_worst(done: SimpleNamespace) -> None:
    record = next(r for r in done.study.cells if r.cell.algorithm == "fomaml")
    losses = record.losses("shots 5", "own")[0, -1]
    zero = done.study.baselines["test/shots 5/zero"][0]
    found = scores(losses, zero)
    rows = done.table("tails.csv")
    rows = rows[(rows["algorithm"] == "fomaml") & (rows["protocol"] == "shots 5")]
    worst = np.sort(found, axis=None)[::-1]
    exactly = (worst[0] + 0.2 * worst[1]) / 1.2  # a tenth of twelve scores
    assert rows["score_cvar90"].iloc[0] == pytest.approx(exactly)
    assert rows["score_cvar99"].iloc[0] == pytest.approx(worst[0])
    assert rows["worst_task"].iloc[0] == found.mean(0).argmax()
    assert rows["worst_score"].iloc[0] == pytest.approx(found.mean(0).max())
    assert rows["worst_loss"].iloc[0] == pytest.approx(losses.mean(0).max())


def test_the_tail_of_a_hundred_values_is_the_mean_of_the_last_ten() -> None:
    values = np.random.default_rng(0).permutation(np.arange(100.0))
    assert cvar(90)(values) == pytest.approx(94.5)
    values[values == 99] = np.inf
    assert cvar(90)(values) == np.inf


def broken(*found: float, logarithmic: bool = False, error: float = 0.0) -> dict[str, float]:
    """The breaking points of scores at 1, 2, 4, 8 with intervals of their score +- an error."""
    at, score = np.array([1, 2, 4, 8])[: len(found)], np.array(found)
    return breaks(at, [score, score - error, score + error], logarithmic)


def test_a_breaking_point_is_where_half_of_the_best_advantage_is_lost() -> None:
    found = broken(0.9, 0.2, 0.4, 0.8)
    assert found["best_value"] == 2 and found["best_score"] == 0.2
    assert found["breaks_above"] == pytest.approx(6)  # 0.6 lies half way from 0.4 to 0.8
    assert found["breaks_below"] == pytest.approx(2 - 0.4 / 0.7)
    logarithmic = broken(0.9, 0.2, 0.4, 0.8, logarithmic=True)
    assert logarithmic["breaks_above"] == pytest.approx(np.sqrt(32))
    assert np.isnan(broken(0.1, 0.2, 0.3)["breaks_above"]), "never lost"
    never = broken(0.95, 0.99, 1.0)
    assert np.isnan(never["breaks_above"]), "there was not a tenth to lose"


def test_a_breaking_point_lies_between_those_of_the_ends_of_the_scores_intervals() -> None:
    found = broken(0.9, 0.2, 0.4, 0.8, error=0.1)  # the level 0.6 is that of the score itself
    assert found["breaks_above_lower"] == pytest.approx(5)  # from 0.5 to 0.9 at the upper end
    assert found["breaks_above_upper"] == pytest.approx(7)  # from 0.3 to 0.7 at the lower end
    assert found["breaks_below_lower"] == pytest.approx(2 - 0.5 / 0.7)
    assert found["breaks_below_upper"] == pytest.approx(2 - 0.3 / 0.7)
    open_ended = broken(0.9, 0.2, 0.4, 0.65, error=0.1)
    assert open_ended["breaks_above"] == pytest.approx(4 + 4 * 0.2 / 0.25)
    assert np.isnan(open_ended["breaks_above_upper"]), "the lower end stays below the level"
    wide = broken(0.9, 0.2, 0.4, 0.8, error=0.45)
    assert wide["breaks_above_lower"] == 2, "no value between the best one and the next is safe"


def test_breaking_points_are_those_of_groups_that_vary_one_number_or_interval(
    done: SimpleNamespace,
) -> None:
    table = done.table("breaking_points.csv")
    assert set(table["group"]) == {"shots", "steps", "noise", "where"}
    assert set(table.loc[table["group"] == "where", "best_value"]) <= {-2.5, 2.5}, "their middles"
    board = done.table("leaderboard.csv")
    fomaml = board[(board["algorithm"] == "fomaml") & board["protocol"].str.startswith("shots ")]
    row = table[(table["algorithm"] == "fomaml") & (table["group"] == "shots")].iloc[0]
    assert row["best_score"] == fomaml["score"].min()
    joint = table[(table["algorithm"] == "joint") & (table["group"] == "steps")].iloc[0]
    of_joint = board[(board["algorithm"] == "joint") & board["protocol"].str.startswith("steps ")]
    tuned = of_joint.loc[of_joint["step"] == "tuned", "score"].iloc[0]
    assert joint["best_score"] == tuned, "it is judged by its tuned step"


def test_intervals_of_points_are_measured_by_their_widths_where_these_differ() -> None:
    group = {
        name: protocols.StudyProtocol(**ONE, gap=gap)
        for name, gap in {"a": None, "b": [-1.0, 1.0], "c": [-4.0, 2.0]}.items()
    }
    rows = pd.DataFrame(axes._rows(SimpleNamespace(groups={"gap": group}), "gap"))
    assert list(rows["number"]) == [0, 2, 6] and list(rows["value"]) == [
        "none",
        "-1 to 1",
        "-4 to 2",
    ]
    assert set(rows["scale"]) == {"order"}
    same = [[-5.0, 0.0], [0.0, 5.0], [-5.0, 5.0]]  # two of one width
    assert np.isnan(axes._numbers("support", same)).all(), "no value may stand for another"


def test_intervals_that_combine_centers_and_widths_are_two_axes() -> None:
    intervals = [[c - w / 2, c + w / 2] for w in (1.0, 2.0) for c in (-1.5, 0.0, 1.5)]
    group = {
        str(n): protocols.StudyProtocol(**{**ONE, "support": interval})
        for n, interval in enumerate(intervals)
    }
    rows = pd.DataFrame(axes._rows(SimpleNamespace(groups={"map": group}), "map"))
    assert list(rows["axis"].unique()) == ["support center", "support width"]
    by_axis = rows.pivot(index="protocol", columns="axis", values="number")
    found = [(row["support center"], row["support width"]) for _, row in by_axis.iterrows()]
    assert found == [(sum(ends) / 2, ends[1] - ends[0]) for ends in intervals]
    del group["0"]  # not every combination
    rows = pd.DataFrame(axes._rows(SimpleNamespace(groups={"map": group}), "map"))
    assert list(rows["axis"].unique()) == ["support"]


def test_selected_cells_are_compared_with_the_first_algorithm_under_a_grid(
    done: SimpleNamespace,
) -> None:
    table = done.table("comparisons.csv")
    rows = table[(table["protocol"] == "noise 1") & (table["role"] == "selected")]
    assert set(rows["algorithm_a"]) == {"fomaml"} and set(rows["region"]) == {"all"}
    board = done.table("leaderboard.csv")
    others = set(board.loc[board["protocol"] == "noise 1", "algorithm"])
    assert set(rows["algorithm_b"]) == others - {"fomaml", "zero", "least-squares"}
    assert len(rows) == rows["algorithm_b"].nunique()
    single = table[(table["protocol"] == "robustness") & (table["role"] == "selected")]
    assert {"fomaml", "joint"} < set(single["algorithm_a"])


def test_noisy_waves_have_the_best_possible_in_every_table(done: SimpleNamespace) -> None:
    board = done.table("leaderboard.csv")
    noisy = board[board["protocol"].str.startswith("noise ")]
    assert set(noisy.loc[noisy["algorithm"] == "bayes", "protocol"]) == {"noise 0.5", "noise 1"}
    assert set(board.loc[board["algorithm"] == "bayes", "protocol"]) == {"noise 0.5", "noise 1"}


def test_a_grid_of_three_axes_is_a_set_of_maps_for_each_value_of_the_third(
    done: SimpleNamespace,
) -> None:
    known = Tables(done.folder / "results/atlas/tables")
    slices = Grid(known, "three").slices
    assert [title.rpartition(" ")[2] for title, _ in slices] == ["1", "2"]
    for updates, (_, part) in zip(("1", "2"), slices, strict=True):
        assert [axis.name for axis in part.axes] == ["shots", "support"]
        found = set(part.rows["protocol"])
        assert len(found) == 4 and all(f"updates {updates}" in name for name in found)
    drawn = grids.draw(known, "three")
    titles = [place.get_suptitle() for place in drawn.subfigs]
    assert titles == [title for title, _ in slices]
    shown = [axes for place in drawn.subfigs for axes in place.axes if axes.images]
    methods = [len(part.methods) + len(part.below) for _, part in slices]
    compared = len(slices)  # the one published cell with the Gaussian process
    assert len(shown) == sum(methods) + compared


def test_every_grid_has_a_figure(done: SimpleNamespace, tmp_path: Path) -> None:
    folder = done.folder / "results" / "atlas" / "tables"
    drawn = {path.name for path in figures.draw_all(folder, tmp_path)}
    assert {f"grid_{name}.svg" for name in done.started.study.grids} <= drawn
    assert "grid_fixed.svg" not in drawn and "adaptation_fixed_score.svg" in drawn


def test_a_method_that_is_not_everywhere_keeps_its_place_on_a_map(done: SimpleNamespace) -> None:
    from metabench.views.drawing.grids import Grid
    from metabench.views.drawing.reading import Tables
    from metabench.views.figures.grids import _on_grid

    grid = Grid(Tables(done.folder / "results" / "atlas" / "tables"), "both")
    method = next(m for m in grid.methods if m.algorithm == "fomaml")
    rows = grid.of(method)
    whole = _on_grid(grid, rows, "score")
    assert whole.shape == (2, 2) and np.isfinite(whole).all()
    last = _on_grid(grid, rows[rows["place frequency"] == 1], "score")
    assert np.isnan(last[:, 0]).all() and (last[:, 1] == whole[:, 1]).all()
