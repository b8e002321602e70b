"""Tables of a small, actually trained study with a cell that diverges."""

import copy
import dataclasses
import hashlib
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small import ROOT, compute, content, running

from metabench.analysis import columns, frames, measured, tables
from metabench.analysis.selection import Selection
from metabench.analysis.statistics.intervals import FEWEST_SEEDS
from metabench.analysis.statistics.resampling import resamples
from metabench.analysis.tables import adaptation, selection
from metabench.records import artifacts, manifests
from metabench.views import figures, headline

TASKS = 40


def study_content() -> dict:
    """A study of six small cells: FOMAML diverges at the second meta step."""
    study = content(
        study="tables", seeds=3, seed_block=2, network={"hidden": [8, 8], "activation": "tanh"}
    )
    fomaml, reptile, equal, joint, random = copy.deepcopy(study["cells"])
    fomaml |= {"meta_iterations": 40, "inner_step_size": 0.02, "meta_step_size": [0.01, 30.0]}
    fomaml["published"] = {"meta_step_size": 0.01}
    reptile |= {
        "meta_iterations": 40,
        "inner_step_size": 0.02,
        "meta_step_size": 0.1,
        "published": {},
    }
    joint |= {"meta_iterations": 40, "meta_step_size": 0.01, "published": {}}
    study["cells"] = [fomaml, reptile, equal, joint, random]
    study["validation"] = {"tasks": 5, "interval": 20}
    study["evaluation"] = {"tasks": TASKS, "tuning_step_sizes": [0.001, 0.01]}
    study["statistics"] = {"resamples": 50}
    study["tasks"] |= {"noise": 0.1}  # so that there are predictive distributions
    return study


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("study")
    started = running(study_content(), root)
    compute(started)
    read = measured.read(started)
    tables.write_all(read, root / "tables")
    # No algorithm of the study predicts variances, but baselines do.
    others = [table for table in tables.declared() if table.needed]
    for table in others:
        frames.write(read.once(table.build), root / "others" / table.name)
    folders = dict.fromkeys((table.name for table in others), root / "others")
    return SimpleNamespace(
        root=root,
        running=started,
        study=read,
        table=cache(lambda name: frames.read(folders.get(name, root / "tables"), name)),
    )


@pytest.fixture(scope="module")
def diverging(done: SimpleNamespace) -> str:
    """The cell that diverges."""
    cells = [c for c in done.running.study.cells if c.algorithm == "fomaml"]
    return next(c.name for c in cells if c.hyperparameters.meta_step_size == 30)


def test_a_column_is_declared_once_by_its_table_or_with_those_that_tables_share(
    done: SimpleNamespace,
) -> None:
    found = {table.name: set(done.table(table.name).columns) for table in tables.declared()}
    count = Counter(column for names in found.values() for column in names)
    shared = {column for column, number in count.items() if number > 1}
    assert set(columns.SHARED) == shared
    for table in tables.declared():
        assert set(table.columns) == found[table.name] - shared, table.name


HOLDS = {
    columns.TEXT: lambda values: isinstance(values.dtype, pd.StringDtype | pd.CategoricalDtype),
    columns.NUMBER: lambda values: values.dtype.kind in "iuf",
    columns.COUNT: lambda values: values.dtype.kind in "iuf" and (values.dropna() % 1 == 0).all(),
    columns.FLAG: lambda values: values.dtype.kind == "b",
}
"""What a column of each type holds."""


@pytest.mark.parametrize("table", tables.declared(), ids=lambda table: table.name)
def test_a_column_holds_what_its_type_says(done: SimpleNamespace, table: tables.Table) -> None:
    known = columns.SHARED | table.columns
    for name, values in done.table(table.name).items():
        assert values.isna().all() or HOLDS[known[name].type](values), name


def test_a_count_of_ten_digits_beside_an_empty_field_keeps_them_all(tmp_path: Path) -> None:
    table = pd.DataFrame({"point_gradients": [1234567891, None], "strength": [3, None]})
    frames.write(columns.with_whole_counts(table, {}), tmp_path / "counts.csv")
    lines = (tmp_path / "counts.csv").read_text().splitlines()
    assert lines == ["point_gradients,strength", "1234567891,3", ","]


def test_every_table_has_a_caption_and_the_page_of_results_names_no_other() -> None:
    page = (ROOT / "results" / "README.md").read_text()
    named = set(re.findall(r"`tables/([a-z.]+)`", page))
    assert named and named <= {*(table.name for table in tables.declared()), manifests.NAME}
    assert all(table.caption.strip() for table in tables.declared())


MINE = """
import pandas as pd

NAME = "mine.csv"
CAPTION = "How many cells there are."
COLUMNS = {}


def build(study):
    return pd.DataFrame({"cells": [len(study.cells)]})
"""


def test_a_file_in_the_folder_is_a_table_and_nothing_else_need_name_it(
    done: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setattr(tables, "__path__", [*tables.__path__, str(tmp_path)])
    tables.declared.cache_clear()
    try:
        assert "mine.csv" in tables.names()
        mine = next(table for table in tables.declared() if table.name == "mine.csv")
    finally:
        monkeypatch.undo()
        tables.declared.cache_clear()
    assert done.study.once(mine.build)["cells"].item() == 6


def test_what_several_tables_need_is_built_once(done: SimpleNamespace) -> None:
    built = []

    def build(study: measured.Study) -> pd.DataFrame:
        built.append(study)
        return pd.DataFrame({"x": [1]})

    study = replace(done.study)
    assert study.once(build) is study.once(build)
    assert built == [study]


def test_tables_are_the_same_bytes_again_and_from_other_seed_blocks(
    done: SimpleNamespace, tmp_path: Path
) -> None:
    again = running(study_content() | {"seed_block": 3}, tmp_path)
    compute(again)
    tables.write_all(measured.read(again), tmp_path / "tables")
    for name in tables.names():
        first, second = ((root / "tables" / name).read_bytes() for root in (done.root, tmp_path))
        assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest(), name


def test_a_diverged_run_is_never_dropped_from_a_mean(done: SimpleNamespace, diverging: str) -> None:
    runs = done.table("runs.csv").query("cell == @diverging")
    assert (
        len(runs) == 3 and set(runs["status"]) == {"diverged"} and (runs["diverged_at"] >= 1).all()
    )
    rows = done.table("leaderboard.csv").query("cell == @diverging")
    assert len(rows) == 4  # two protocols, at its own and at the common step
    assert (rows["runs_diverged"] == 3).all() and (rows["runs_ok"] == 0).all()
    assert (
        np.isinf(rows["mean"]).all()
        and np.isinf(rows["median"]).all()
        and (rows["diverged_share"] == 1).all()
    )


def test_one_diverged_seed_of_many_makes_the_mean_infinite_and_is_counted() -> None:
    losses = np.ones((4, 10))
    losses[2] = np.inf
    row = adaptation.summarize(losses, np.full(10, 5.0), 0.95)
    assert row["mean"] == np.inf and row["mean_finite"] == 1 and row["finite"] == 30
    assert row["diverged_share"] == 0.25 and row["median"] == 1


def test_an_adaptation_above_the_limit_is_infinite_in_the_median_but_as_it_is_in_the_mean() -> None:
    losses = np.array([[1.0, 2.0, 60.0, 70.0, 80.0]])
    row = adaptation.summarize(losses, np.full(5, 50.0), 0.95)
    assert (
        row["mean"] == pytest.approx(42.6)
        and row["median"] == np.inf
        and row["diverged_share"] == 0.6
    )


def test_the_limit_is_ten_times_the_larger_of_the_tasks_and_the_average_zero_predictor(
    done: SimpleNamespace,
) -> None:
    zero = done.study.baselines["test/standard/zero"][0]
    limit = done.study.limit("standard")[0]
    flat, high = np.argmin(zero), np.argmax(zero)
    assert limit[flat] == pytest.approx(10 * zero.mean()) and limit[high] == pytest.approx(
        10 * zero[high]
    )


def test_the_means_of_the_tables_are_those_of_the_records(done: SimpleNamespace) -> None:
    record = next(
        r for r in done.study.cells if r.cell.algorithm == "reptile" and r.cell.role == "published"
    )
    losses = record.losses("robustness", "own")  # (region, update, seed, task)
    assert losses.shape == (3, 11, 3, TASKS)
    rows = done.table("adaptation.csv").query(
        "cell == @record.cell.name and protocol == 'robustness' and step == 'own'"
    )
    for region, name in enumerate(("all", "seen", "unseen")):
        means = rows[rows["region"] == name].sort_values("update")["mean"]
        assert means.to_numpy() == pytest.approx(losses[region].mean((-2, -1)))
    final = done.table("tasks.parquet").query(
        "cell == @record.cell.name and protocol == 'robustness' and region == 'all'"
    )
    assert final.sort_values(["seed", "task"])["loss"].to_numpy() == pytest.approx(
        losses[0, -1].ravel()
    )


def test_the_whole_grid_is_the_mean_of_its_seen_and_unseen_halves(done: SimpleNamespace) -> None:
    rows = done.table("curves.parquet").query("protocol == 'robustness' and algorithm == 'random'")
    wide = rows.pivot_table(
        index=["cell", "seed", "step", "update"], columns="region", values="mean"
    )
    assert wide["all"].to_numpy() == pytest.approx(
        ((wide["seen"] + wide["unseen"]) / 2).to_numpy(), rel=1e-5
    )


def test_costs_count_what_the_script_spends(done: SimpleNamespace) -> None:
    runs = done.table("runs.csv").groupby(["algorithm", "role"]).first()
    spent = runs[["tasks_seen", "gradient_evaluations", "point_gradients"]]
    # 40 meta-iterations of 3 tasks, 6 gradients, 180 points (FOMAML) and 1, 5, 50 (Reptile): the
    # Flux script's counts.
    assert tuple(spent.loc[("fomaml", "published")]) == (120, 240, 7200)
    assert tuple(spent.loc[("reptile", "published")]) == (40, 200, 2000)
    assert spent.loc[("reptile", "equal-budget"), "point_gradients"] == 7200
    assert tuple(spent.loc[("random", "published")]) == (0, 0, 0)


def test_selection_never_takes_a_cell_with_a_diverged_run(
    done: SimpleNamespace, diverging: str
) -> None:
    table = done.table("selection.csv")
    assert not table[table["cell"] == diverging]["selected"].any()
    assert (table.groupby(["algorithm", "protocol", "step"])["selected"].sum() == 1).all()
    assert "equal-budget" not in set(table["role"])


@pytest.mark.parametrize(
    ("winner", "edges"), [(0, "meta_step_size"), (1, ""), (2, "meta_step_size")]
)
def test_a_selected_cell_at_the_end_of_three_values_is_on_the_edge(winner: int, edges: str) -> None:
    sizes = np.array([0.1, 0.2, 0.3])
    records = []
    for size in sizes:
        h = SimpleNamespace(inner_step_size=0.02, meta_step_size=size)
        records.append(SimpleNamespace(cell=SimpleNamespace(hyperparameters=h)))
    validation = np.ones((3, 1, 1))
    validation[winner] = 0.5
    found = Selection("standard", "own", records, np.ones(1, int), validation, validation, sizes)
    assert found.winner == winner and selection.edges(found) == edges


def test_every_contender_meets_every_other_once(done: SimpleNamespace) -> None:
    table = done.table("comparisons.csv").query("protocol == 'standard' and region == 'all'")
    for role in ("published", "selected"):
        rows = table[table["role"] == role]
        pairs = {frozenset(pair) for pair in rows[["algorithm_a", "algorithm_b"]].to_numpy()}
        names = set().union(*pairs)
        assert {"fomaml", "reptile", "joint", "random", "linear"} <= names
        assert not {"zero", "least-squares"} & names, "the one is trivial, the other was told"
        assert len(rows) == len(pairs) == len(names) * (len(names) - 1) / 2


def test_a_pair_has_the_difference_and_the_ratio_of_its_scores(done: SimpleNamespace) -> None:
    row = done.table("comparisons.csv").query(
        "role == 'equal-budget' and protocol == 'standard' and region == 'all'"
    )
    row = row[row["algorithm_a"] == "fomaml"].iloc[0]
    zero = done.study.baselines["test/standard/zero"][0]
    a, b = (
        np.minimum(record.losses("standard", "own")[0, -1] / zero, 1)
        for role, name in (("published", "fomaml"), ("equal-budget", "reptile"))
        for record in done.study.cells
        if (record.cell.role, record.cell.algorithm) == (role, name)
    )
    assert row["difference"] == pytest.approx((a - b).mean(), rel=1e-6)
    assert row["ratio"] == pytest.approx(np.exp((np.log(a) - np.log(b)).mean()), rel=1e-6)
    assert row["difference_lower"] < row["difference"] < row["difference_upper"]
    assert row["ratio_lower"] < row["ratio"] < row["ratio_upper"]
    assert 0 < row["detectable"] < row["difference_upper"] - row["difference_lower"]


@pytest.mark.parametrize("region", ["seen", "unseen"])
def test_scores_of_a_pair_are_relative_to_the_zero_predictor_on_the_same_points(
    done: SimpleNamespace, region: str
) -> None:
    n = ["all", "seen", "unseen"].index(region)
    table = done.table("comparisons.csv").query("role == 'published' and protocol == 'robustness'")
    row = table[table["region"] == region].set_index(["algorithm_a", "algorithm_b"])
    zero = done.study.baselines["test/robustness/zero"][n]
    linear = np.minimum(done.study.baselines["test/robustness/linear"][n] / zero, 1)
    a, b = (
        np.minimum(record.losses("robustness", "own")[n, -1] / zero, 1)
        for name in ("fomaml", "reptile")
        for record in done.study.cells
        if (record.cell.role, record.cell.algorithm) == ("published", name)
    )
    found = row["difference"]
    assert found["fomaml", "reptile"] == pytest.approx((a - b).mean(), rel=1e-5)
    assert found["fomaml", "linear"] == pytest.approx((a - linear).mean(), rel=1e-5)


def test_scores_are_capped_on_each_task_before_they_are_averaged(done: SimpleNamespace) -> None:
    zero = done.study.baselines["test/robustness/zero"]
    record = done.study.cells[0]
    losses = record.losses("robustness", "own")
    row = (
        done.table("adaptation.csv")
        .query("protocol == 'robustness' and step == 'own' and region == 'unseen' and update == 2")
        .set_index("cell")
        .loc[record.cell.name]
    )
    expected = np.minimum(losses[2, 2] / zero[2], 1)
    assert row["score"] == pytest.approx(expected.mean(), rel=1e-6)
    assert row["failed"] == pytest.approx((losses[2, 2] >= zero[2]).mean())
    assert row["score"] != pytest.approx(min((losses[2, 2] / zero[2]).mean(), 1), rel=1e-3)


def test_the_number_of_updates_is_that_of_the_least_validation_score(done: SimpleNamespace) -> None:
    zero = done.study.baselines["validation/standard/zero"][0]
    for record in done.study.cells[:3]:
        losses = record.evaluation["validation/standard/own"]
        each = np.minimum(np.nan_to_num(losses, nan=np.inf) / zero, 1).mean((1, 2))
        row = done.table("selection.csv").query(
            "cell == @record.cell.name and algorithm == @record.cell.algorithm"
            " and protocol == 'standard' and step == 'own'"
        )
        assert row["updates"].item() == 1 + each[1:].argmin()
        assert row["validation_score"].item() == pytest.approx(each[1:].min(), rel=1e-6)


def test_a_mean_has_no_interval_where_an_adaptation_diverged(done: SimpleNamespace) -> None:
    table = done.table("adaptation.csv")
    diverged = table["diverged_share"] > 0
    assert diverged.any() and table.loc[diverged, ["mean_lower", "mean_upper"]].isna().all(
        axis=None
    )
    few = table["seeds"].between(2, FEWEST_SEEDS - 1)
    assert few.any() and table.loc[few, "mean_lower"].isna().all()


def test_a_mean_has_an_interval_where_seeds_and_tasks_determine_it() -> None:
    losses, limit = np.tile(np.arange(1.0, 7.0), (FEWEST_SEEDS, 1)), np.full(6, 500.0)
    row = adaptation.summarize(losses, limit, 0.95)
    assert row["mean_lower"] < row["mean"] < row["mean_upper"]
    losses[0] *= 10
    row = adaptation.summarize(losses, limit, 0.95)
    assert row["mean"] == 9.8 and np.isnan([row["mean_lower"], row["mean_upper"]]).all()


def test_the_leaderboard_has_what_is_known_after_the_chosen_updates(done: SimpleNamespace) -> None:
    adapted = done.table("adaptation.csv").query("region == 'all'")
    rows = done.table("leaderboard.csv").query("role in ['published', 'grid']")
    keys = ["algorithm", "cell", "protocol", "step"]
    known = adapted.set_index([*keys, "update"])["score"]
    for row in rows.itertuples():
        at = (*(getattr(row, key) for key in keys), int(row.updates))
        assert row.chosen_score == known.loc[at]


def test_the_ranking_follows_the_scores_and_says_how_sure_it_is(done: SimpleNamespace) -> None:
    table = done.table("ranking.csv")
    for _, rows in table.groupby(["role", "protocol"]):
        assert list(rows.sort_values("score", kind="stable")["rank"]) == sorted(rows["rank"])
        assert ((rows["rank_lower"] >= 1) & (rows["rank_upper"] <= len(rows))).all()
        assert rows["first"].sum() <= 1


def test_profiles_never_fall_and_end_at_what_did_not_fail(done: SimpleNamespace) -> None:
    table = done.table("profiles.csv")
    for _, rows in table.groupby(["role", "protocol", "algorithm", "cell"]):
        shares = rows.sort_values("level")["share"].to_numpy()
        assert (np.diff(shares) >= 0).all() and shares[0] >= 0 and shares[-1] <= 1


def test_least_squares_knows_too_much_to_be_a_contender(done: SimpleNamespace) -> None:
    assert "least-squares" not in set(done.table("comparisons.csv")["algorithm_b"])


def test_a_run_whose_loss_is_infinite_before_adaptation_has_diverged(done: SimpleNamespace) -> None:
    record = next(r for r in done.study.cells if r.cell.algorithm == "random")
    losses = record.evaluation["test/standard/common"].copy()
    losses[0, 0, 1, 7] = np.inf
    changed = dataclasses.replace(
        record, evaluation=record.evaluation | {"test/standard/common": losses}
    )
    assert list(record.diverged) == [False, False, False] and list(changed.diverged) == [
        False,
        True,
        False,
    ]


def test_a_selected_cell_on_the_edge_is_warned_of(tmp_path: Path) -> None:
    row = {"algorithm": "reptile", "cell": "12345678", "protocol": "standard", "step": "own"}
    table = pd.DataFrame(
        [row | {"on_edge": "inner_step_size meta_step_size"}, row | {"on_edge": ""}]
    )
    frames.write(table, tmp_path / "selection.csv")
    (line,) = selection.edge_warnings(tmp_path)
    assert (
        "reptile under standard (own step) selects 12345678" in line
        and "inner_step_size and meta_step_size" in line
    )


@pytest.mark.parametrize("name", tables.names())
def test_a_table_has_the_columns_of_the_reference_in_their_order(
    done: SimpleNamespace, name: str
) -> None:
    reference = frames.read(ROOT / "results" / "reference" / "flux" / "tables", name)
    assert list(done.table(name).columns) == list(reference.columns)


def test_a_tuned_run_takes_the_step_of_its_least_validation_loss(done: SimpleNamespace) -> None:
    table = done.table("tuning.csv")
    chosen = table[table["chosen"]].set_index(["cell", "seed", "protocol"])["validation_loss"]
    least = table.groupby(["cell", "seed", "protocol"])["validation_loss"].min()
    pd.testing.assert_series_equal(chosen.sort_index(), least.sort_index(), check_names=False)


@pytest.mark.parametrize("change", ["settings", "theta", "damage"])
def test_records_of_something_else_are_refused(
    done: SimpleNamespace, tmp_path: Path, change: str
) -> None:
    import shutil

    root = tmp_path / "study"
    shutil.copytree(done.root, root)
    content = study_content()
    if change == "settings":
        content |= {"network": {"hidden": [8, 8], "activation": "relu"}}
    started = running(content, root)
    path = started.layout.trained(done.running.study.cells[0].path, "0-1")
    if change == "theta":
        arrays, header = artifacts.read(path)
        artifacts.write(path, {**arrays, "theta": arrays["theta"] + 1}, header)
    elif change == "damage":
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(artifacts.ArtifactError, match=r"different config|different theta|damaged"):
        measured.read(started)


def test_a_study_of_one_cell_that_nobody_published_has_tables_and_figures_too(
    tmp_path: Path,
) -> None:
    joint = {
        "algorithm": "joint",
        "meta_iterations": 5,
        "meta_batch_size": 1,
        "shots": 5,
        "meta_step_size": 0.01,
    }
    started = running(study_content() | {"cells": [joint], "seeds": 1}, tmp_path)
    compute(started)
    tables.write_all(measured.read(started), tmp_path / "tables")
    assert len(frames.read(tmp_path / "tables", "runs.csv")) == 1
    compared = frames.read(tmp_path / "tables", "comparisons.csv")
    assert set(compared["role"]) == {"selected"} and "joint" in set(compared["algorithm_a"])
    drawn = {path.stem for path in figures.draw_all(tmp_path / "tables", tmp_path / "figures")}
    assert {"adaptation_standard_mean", "showcase_standard", "validation_curves"} <= drawn
    shown = frames.read(tmp_path / "tables", "showcase.csv")
    assert set(shown["role"]) == {"grid"}, (
        "where none is published, the selected cell stands for all"
    )


def test_the_headline_names_published_selected_and_equal_budget_cells(
    done: SimpleNamespace,
) -> None:
    text = headline.markdown(done.table("leaderboard.csv"))
    assert re.search(r"\| reptile \| equal budget \| own \(0.02\) \|", text)
    assert re.search(r"\| zero \| - \| none \| 1 \[1, 1\], [\d.]+ / [\d.]+", text)
    assert "inf" not in text  # the diverged cell is neither published nor selected
    row = (
        done.table("leaderboard.csv")
        .query("algorithm == 'zero' and protocol == 'standard'")
        .iloc[0]
    )
    assert f"1 [1, 1], {row['mean']:.3g} / {row['median']:.3g}" in text


def test_statistics_are_shared_only_where_all_that_they_need_is_equal() -> None:
    draws = resamples("any", 3, 8, 20)
    losses = np.random.default_rng(0).exponential(size=(3, 8))
    zero, limit = np.full(8, 2.0), np.full(8, 3.0)
    shared = adaptation.Statistics(draws, 0.95)
    first = shared.of(losses, zero, limit, True)
    assert shared.of(losses.copy(), zero.copy(), limit.copy(), True) is first
    others = [
        (losses + 0.1, zero, limit, True),
        (losses.reshape(1, 24)[:, :8], zero, limit, False),
        (losses, zero + 1, limit, True),
        (losses, zero, limit / 9, True),
        (losses, zero, limit, False),
    ]
    for arguments in others:
        alone = adaptation.Statistics(draws, 0.95).of(*arguments)
        assert shared.of(*arguments) == pytest.approx(alone, nan_ok=True) != first
