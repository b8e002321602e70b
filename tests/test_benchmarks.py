"""The benchmark counts operations correctly, and only times peers that agree with metabench.
Nothing is timed here.
"""

import sys
from importlib.util import find_spec

import pandas as pd
import pytest
import small
import torch
import yaml
from small import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))  # they are scripts, and no package

import coverage
import growth
import parsing
import speed
import subjects
import whole
from workers import Worker, cores

from metabench.analysis.statistics.intervals import FEWEST_SEEDS
from metabench.learning import training
from metabench.learning.algorithms import NAMES
from metabench.study import config
from metabench.study.jobs import Study
from metabench.workflow import estimate

WORKLOADS = subjects.workloads()


LOOPED = [name for name in WORKLOADS if hasattr(subjects.Loop, name)]
"""What the plain loop does."""


def test_the_workloads_are_the_algorithms_that_train():
    assert set(WORKLOADS) == set(NAMES) - {"random"}
    assert set(LOOPED) == {"fomaml", "reptile", "joint"}


def test_settings_are_read_back_from_what_a_worker_is_told():
    for settings in WORKLOADS.values():
        dumped = settings.model_dump(mode="json")
        assert subjects.read(dumped) == settings


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("runs", {"stack": 20}),
        ("width", {"hidden": (20, 20)}),
        ("shots", {"shots": 20, "grid_points": 100}),
        ("cores", {"processes": 20}),
    ],
)
def test_a_curve_changes_one_quantity_and_takes_steps_with_which_no_run_diverges(
    quantity, expected
):
    settings, stack, processes = growth.changed(WORKLOADS["reptile"], quantity, 20)
    usual = {"stack": subjects.STACK, "processes": 1, "hidden": (64, 64), "shots": 10}
    found = {
        "stack": stack,
        "processes": processes,
        "hidden": settings.network.hidden,
        "shots": settings.hyperparameters.shots,
        "grid_points": settings.tasks.grid_points,
    }
    assert found == usual | {"grid_points": 50} | expected
    h = settings.hyperparameters
    assert h.inner_step_size == h.meta_step_size == growth.TINY
    assert settings.shape.widths == (1, *settings.network.hidden, 1)


def test_a_study_of_many_cells_is_one():
    for cells in (100, 1000):
        content = growth.study(cells)
        assert len(Study(config.parse(content)).cells) == cells


def test_a_published_meta_iteration_of_fomaml_has_four_and_a_half_million_operations():
    points, forward, back = 3 * (10 + 50), 2 * (64 + 64 * 64 + 64), 2 * (64 * 64 + 64)
    assert subjects.flops(WORKLOADS["fomaml"]) == points * (2 * forward + back) == 4_538_880


def test_the_maps_of_meta_curvature_are_counted_beside_its_gradients():
    settings = WORKLOADS["meta_curvature"]
    squares = sum(n**2 for n in (2, 64, 65, 64, 65, 1))
    maps = 3 * 3 * 2 * 10 * squares  # three tasks, three products, ten points
    assert subjects.flops(settings) - subjects.flops(WORKLOADS["maml"]) == maps == 2_996_460


def test_a_floor_counts_the_products_of_recurrent_and_attending_networks():
    points, states, gates = 10 + 50, 10 + 1, 4 * 64
    lstm = 3 * (points * 2 * 2 * 2 * gates + states * 6 * 64 * gates + 50 * 6 * 64)
    assert subjects.flops(WORKLOADS["lstm"]) == lstm

    queries = combination = 20 * 6 * 64 * 64
    keys, mlp, attention = 10 * 6 * 64 * 128, 20 * 6 * 2 * 64 * 128, 20 * 10 * 2 * 6 * 64
    block = queries + keys + attention + combination + mlp
    embedding, head = 20 * (4 * 2 * 64 + 6 * 64 * 64), 10 * 6 * (64 * 64 + 64)
    transformer = 3 * (embedding + 2 * block + head)  # three tasks, two blocks
    assert subjects.flops(WORKLOADS["in_context_transformer"]) == transformer


def test_a_floor_counts_the_transformations_of_a_t_net_once_for_all_tasks():
    metrics = 3 * 3 * 2 * 10 * sum(n**2 for n in (64, 64, 1))
    products = 6 * (64 * (128 + 64**2) + 64 * (65 * 64 + 64**2) + 1 * (65 + 1))
    extra = subjects.flops(WORKLOADS["t_net"]) - subjects.flops(WORKLOADS["maml"])
    assert extra == metrics + products


def start(kind, algorithm, stack=2, dtype=torch.float64):
    return kind(WORKLOADS[algorithm], stack, dtype)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(subjects, "CHECKED", 5)


@pytest.mark.parametrize("algorithm", LOOPED)
@pytest.mark.parametrize("stack", [1, 2])
def test_a_plain_loop_does_what_metabench_does(stack, algorithm):
    assert subjects.check(start(subjects.Loop, algorithm, stack)) < 1e-10


@pytest.mark.parametrize("algorithm", WORKLOADS)
@pytest.mark.parametrize("stack", [1, 2])
def test_a_peer_that_derives_nothing_by_hand_does_what_metabench_does(stack, algorithm):
    assert subjects.check(start(subjects.TorchFunc, algorithm, stack)) < 1e-10


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("jax"), reason="a peer of the benchmark alone: make bench")
def test_the_peer_in_jax_does_what_metabench_does():
    with Worker(cores()[0]) as worker:  # a process of its own, since jax does not like to be forked
        for algorithm, settings in WORKLOADS.items():
            for stack in (1, 2):
                worker.ask("make", algorithm, "jax", settings, stack)
                found = worker.answer()
                assert found["distance in float32"] < subjects.TOLERANCE[torch.float32]
                assert stack > 1 or found["distance in float64"] < 1e-10


@pytest.mark.parametrize("algorithm", LOOPED)
@pytest.mark.parametrize("dtype", subjects.TOLERANCE)
def test_a_peer_whose_step_is_off_by_one_percent_is_refused(algorithm, dtype):
    settings = WORKLOADS[algorithm]
    h = settings.hyperparameters
    larger = h.model_copy(update={"meta_step_size": 1.01 * h.meta_step_size})
    peer = subjects.Loop(settings.model_copy(update={"hyperparameters": larger}), 1, dtype)
    peer.settings = settings
    with pytest.raises(subjects.Disagreement, match=algorithm):
        subjects.check(peer)


def test_a_peer_that_averages_where_metabench_adds_up_is_refused(monkeypatch):
    peer = start(subjects.TorchFunc, "fomaml")
    with monkeypatch.context() as wrong:
        wrong.setattr(torch.Tensor, "sum", torch.Tensor.mean)
        peer.advance(subjects.CHECKED)
    peer.advance = lambda count: None
    with pytest.raises(subjects.Disagreement, match="fomaml"):
        subjects.check(peer)


def test_a_peer_that_returns_no_numbers_is_refused():
    peer = start(subjects.Loop, "joint", 1)
    with torch.no_grad():
        next(peer.models[0].parameters()).fill_(torch.nan)
    with pytest.raises(subjects.Disagreement):
        subjects.check(peer)


@pytest.mark.parametrize("algorithm", ["joint", "fomaml"])
def test_equal_work_trains_as_the_job_does_on_points_drawn_in_advance(algorithm, monkeypatch):
    settings = WORKLOADS[algorithm]
    validation = settings.validation.model_copy(update={"interval": 5})
    settings = settings.model_copy(update={"validation": validation})
    first = subjects.engines()[0]
    job = subjects.make(f"metabench {first}", settings, 2)
    equal = subjects.make(f"{subjects.EQUAL_WORK}{first}", settings, 2)
    job()
    monkeypatch.setattr(training.TaskStream, "block", lambda stream, number: None)  # no draws
    monkeypatch.setattr(subjects.artifacts, "write", None)  # no checkpoints
    equal()
    assert torch.equal(job.state.theta, equal.state.theta)
    assert job.state.meta_iteration == equal.state.meta_iteration == 5
    assert equal.settings.validation.tasks == 2 < job.settings.validation.tasks
    assert job.iterations == equal.iterations == 10


def test_a_table_shows_equal_work_once_it_is_measured():
    rows = [
        ("avx512", name, "joint", stack, 1, 1.0, median, 1.0, median / 2, median / 3)
        for name, stack, median in (
            ("metabench fused", 10, 6.0),
            (f"{subjects.EQUAL_WORK}fused", 10, 3.0),
            ("jax", 10, 12.0),
        )
    ]
    columns = ["vectors", "subject", "algorithm", "stack", "threads", "minimum", "median"]
    columns += ["maximum", "ratio_to_floor", "ratio_to_best_peer"]
    table = speed.pd.DataFrame(rows, columns=columns)
    head, _, line = (row.strip("| ").split(" | ") for row in speed.markdown(table).splitlines())
    assert head[:3] == ["metabench", "at equal work", "JAX"]
    assert line[1:] == ["6", "3", "12", "0.50", "0.25", "3.00"]
    before = speed.markdown(table[table["subject"] != f"{subjects.EQUAL_WORK}fused"])
    assert before.splitlines()[-1].endswith("| 6 | 12 | 0.50 | 3.00 |")


COMMITTED = ROOT / "results" / "reference" / "speed"


def test_the_documented_times_are_those_of_the_committed_table():
    rows = speed.pd.read_csv(COMMITTED / "speed.csv")
    assert speed.markdown(rows) in (ROOT / "docs" / "engine.md").read_text()


def test_the_readme_is_as_fast_as_the_committed_table():
    rows = speed.pd.read_csv(COMMITTED / "speed.csv")
    rows = rows[(rows["threads"] == 1) & (rows["vectors"] == rows["vectors"].iloc[0])]
    times = rows.set_index(["algorithm", "subject", "stack"])["median"]
    loop, jax = (
        [times[a, subject, stack] / times[a, "metabench fused", 10] for a in ("fomaml", "maml")]
        for subject, stack in (("torch.func", 10), ("jax", 10))
    )
    sentence = (
        "FOMAML and MAML train {:.0f} and {:.0f} times faster per run than torch.func, "
        "and both {:.1f} times faster than compiled JAX"
    )
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{jax[0]:.1f}" == f"{jax[1]:.1f}"
    assert sentence.format(*loop, jax[0]) in readme


def over_jax():
    """The time of each algorithm over that of JAX, by vectors and by whole job or equal work."""
    rows = speed.pd.read_csv(COMMITTED / "speed.csv").query("threads == 1 and stack == 10")
    times = rows.set_index(["vectors", "algorithm", "subject"])["median"].unstack("subject")
    ours = times[["metabench fused", f"{subjects.EQUAL_WORK}fused"]]
    return ours.div(times["jax"], axis=0).unstack("vectors")


def test_the_pages_say_which_algorithms_are_faster_than_jax():
    ratios = over_jax()
    assert set(ratios.index) == set(WORKLOADS) and not ratios.isna().any(axis=None)
    largest = ratios.max(axis=1).sort_values()
    ahead, behind = largest[largest < 1], list(largest[largest >= 1].index)
    *first, last = (speed.one_line(name) for name in behind)
    widths = "faster than JAX, with AVX-512 and with AVX2"
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{len(ahead)} of {len(WORKLOADS)} algorithms are {widths}" in readme
    text = (ROOT / "docs" / "engine.md").read_text()
    assert all(line.endswith("|") for line in text.splitlines() if line.startswith("|"))
    page = " ".join(text.split())
    assert f"All but {', '.join(first)} and {last} are {widths}, as a whole job and at" in page
    assert f"The least margin is {1 - ahead.iloc[-1]:.0%}".replace("%", " %") in page


def test_the_page_says_which_methods_that_adapt_by_gradients_are_near_the_floor():
    rows = speed.pd.read_csv(COMMITTED / "speed.csv").query("threads == 1")
    ours = rows[rows["subject"] == "metabench fused"].groupby("algorithm")["ratio_to_floor"].max()
    stepping = {a for a, s in WORKLOADS.items() if hasattr(s.hyperparameters, "inner_step_size")}
    assert {a for a in stepping if ours[a] > 2.5} == {"mmaml"}
    page = " ".join((ROOT / "docs" / "engine.md").read_text().split())
    assert "All methods that adapt by gradients but MMAML stay within 2.5 times the floor." in page


def test_the_page_says_how_long_the_default_study_trains_and_its_floor():
    rows = speed.pd.read_csv(COMMITTED / "speed.csv").query("vectors == 'avx512' and threads == 1")
    floors = rows[rows["subject"].str.startswith("floor")].groupby("algorithm")["median"].min()
    study = Study(config.load(ROOT / "config" / "flux.yaml"))
    floor = sum(
        cell.meta_iterations * study.config.seeds * floors[cell.algorithm] * 1e-6
        for cell in study.cells
        if cell.meta_iterations
    )
    jobs = speed.pd.read_csv(ROOT / "results" / "reference" / "flux" / "seconds.csv")
    page = " ".join((ROOT / "docs" / "engine.md").read_text().split())
    assert f"trains for {jobs['seconds'].sum():.0f} seconds of one core" in page
    alone = f"alone take {floor:.0f} seconds, which is {floor / 120:.1f} minutes on two cores"
    assert alone in page


@pytest.mark.parametrize("vectors", ["avx512", "avx2"])
def test_the_expected_times_of_algorithms_are_right_within_a_factor_of_one_and_a_half(
    vectors, tmp_path
):
    content = yaml.safe_load((ROOT / "benchmarks" / "workloads.yaml").read_text())
    running = small.running(content, tmp_path, "fused")
    rows = speed.pd.read_csv(COMMITTED / "speed.csv").query(
        "vectors == @vectors and subject == 'metabench fused' and threads == 1"
    )
    measured = rows.set_index("algorithm")["median"]
    expected = {
        cell.algorithm: (estimate.training(running, cell, "0-9") - estimate.START)
        / (cell.meta_iterations * 10e-6)
        for cell in running.study.cells
        if cell.algorithm in WORKLOADS
    }
    ratios = measured / speed.pd.Series(expected)
    assert len(ratios.dropna()) == len(WORKLOADS)
    # The median is how fast that processor is, which the plan finds out by a trial.
    assert ((ratios / ratios.median()).between(1 / 1.5, 1.5)).all()


def test_ratios_are_of_medians_to_the_floor_and_to_the_best_peer_of_the_same_vectors_and_cores():
    times = {
        "floor numpy": [7, 7, 7],
        "floor torch": [1, 2, 3],
        "metabench torch": [8, 4, 6],
        "jax": [20, 10, 12],
        "torch.func": [90, 80, 70],
    }
    rows = [
        (vectors, name, 10, "joint", threads, n, threads * t / (2 if vectors == "avx2" else 1))
        for vectors in ("avx512", "avx2")
        for name, found in times.items()
        for threads in (1, 2)
        for n, t in enumerate(found)
    ]
    columns = ["vectors", "subject", "stack", "algorithm", "threads", "repeat", "microseconds"]
    table = speed.table(speed.pd.DataFrame(rows, columns=columns))
    found = table.set_index(["vectors", "threads", "subject"])
    for threads in (1, 2):
        ours = found.loc[("avx512", threads, "metabench torch")]
        assert (ours["minimum"], ours["median"], ours["maximum"]) == (
            4 * threads,
            6 * threads,
            8 * threads,
        )
        for vectors in ("avx512", "avx2"):
            ours = found.loc[(vectors, threads, "metabench torch")]
            assert (ours["ratio_to_floor"], ours["ratio_to_best_peer"]) == (3, 0.5)


def test_the_page_on_scaling_shows_the_committed_table():
    rows = whole.pd.read_csv(COMMITTED / "whole.csv")
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert whole.markdown(rows) in page
    assert whole.projection(rows, 1000, 100, (10, 100)) in page


def test_the_page_on_clusters_has_the_committed_seconds_which_are_below_one():
    rows = parsing.pd.read_csv(COMMITTED / "parsing.csv")
    page = (ROOT / "docs" / "clusters.md").read_text()
    assert parsing.sentence(rows) in " ".join(page.split())
    seconds = rows.set_index("snakefile")["processor_seconds"]
    assert seconds[parsing.OURS] - seconds[parsing.ONE_RULE] < 1


def test_a_study_of_many_training_jobs_has_as_many():
    for size in whole.SIZES:
        study = Study(config.parse(whole.study(size)))
        assert (len(study.train_jobs), study.config.seeds) == size


def test_tables_request_the_memory_that_was_measured_or_a_little_more(tmp_path):
    rows = whole.pd.read_csv(COMMITTED / "whole.csv")
    for row in rows[rows["part"] == "tables alone"].itertuples():
        started = small.running(whole.study(whole.Size(row.training_jobs, row.seeds)), tmp_path)
        assert 0.95 < estimate.tables_megabytes(started) / row.peak_megabytes < 1.3, row


def test_the_projection_is_the_straight_line_through_the_measured_studies():
    """Each job costs 3 of everything and each of its runs 2, beside 5 of the start."""
    rows = whole.pd.DataFrame(
        {"training_jobs": jobs, "seeds": seeds, "part": part}
        | dict.fromkeys(
            ("count", "seconds", "processor_seconds", "peak_megabytes", "megabytes"),
            5 + 3 * jobs + 2 * jobs * seeds,
        )
        for jobs, seeds in whole.SIZES
        for part in {part for one in whole.PROJECTED for part in one.parts}
    )
    lines = whole.projection(rows, 1000, 100, (10, 100)).splitlines()
    found = dict(line.strip("| ").split(" | ", 1) for line in lines[2:])
    assert found["training jobs"] == "10,000 | 1,000"
    # 5 + 3 * 10000 + 2 * 100000 for each of three kinds of file, and with a tenth of the jobs
    assert found["files of records, thousands"] == "690 | 610"
    # 5 + 3 * 1000 + 2 * 100000, whatever the block
    assert found["size of the report, MB"] == "200,000 | 200,000"


def test_the_committed_coverage_is_what_the_command_measures() -> None:
    tables = {
        path.stem: pd.read_csv(path)
        for path in (ROOT / "results" / "reference" / "coverage").glob("*.csv")
    }
    assert tables.keys() == coverage.TABLES.keys()
    improvement, spread, means = (tables[name] for name in ("improvement", "spread", "means"))
    (balanced,) = [one for one in coverage.SCENARIOS if one.name == "normal, balanced"]
    row = improvement[(improvement["losses"] == balanced.name) & (improvement["seeds"] == 3)]
    assert coverage.improvement_of(balanced, 0.8, 3) == row["P = 0.8"].item()
    found, where = coverage.of_spread(2.5, 5), spread["variance over seeds"] == 2.5
    assert found["score"] == spread.loc[where, "5 seeds"].item()
    assert [found["mean"], found["known"]] == (
        means.loc[where, ["5 seeds", "5 seeds, known"]].iloc[0].tolist()
    )
    statistics = tables["statistics"]
    diverging = statistics["losses"].str.contains("diverge")
    assert (
        statistics["mean"].notna() == (statistics["seeds"] >= FEWEST_SEEDS) & ~diverging
    ).all(), "where a mean has an interval"
