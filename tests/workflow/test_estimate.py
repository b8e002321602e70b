"""The expected times of jobs, and the output of `metabench plan`."""

import pytest
import small

from metabench.learning import engine
from metabench.workflow import estimate


def test_the_plan_names_every_cell_and_counts_the_jobs(tmp_path):
    started = small.running(small.content(), tmp_path)
    text = estimate.plan(started, 2)
    assert (
        "23 cells, 10 seeds, 2 protocols:\n  23 training jobs and 46 evaluations, about" in text
        and "on 2 cores" in text
    )
    assert all(cell.title in text for cell in started.study.cells)


def test_the_minutes_are_those_of_the_jobs_that_will_run(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "slowness", lambda name: 6.0)
    started = small.running(small.content(), tmp_path)
    for jobs, minutes in (({"tables": 1}, 2), ({"evaluate": 2, "tables": 1, "figures": 1}, 4)):
        evaluated, others = jobs.get("evaluate", 0), len(jobs) - ("evaluate" in jobs)
        assert estimate.summary(started, jobs, 0.0, 2).splitlines()[1] == (
            f"  0 of 23 training jobs, {evaluated} of 46 evaluations, "
            f"{others} other job{'s' * (others > 1)}, about {minutes} min on 2 cores"
        )
    whole = {"train": 23, "evaluate": 46, "tables": 1}
    assert " 23 training jobs and 46 evaluations, about 7 min on 2 cores" in estimate.summary(
        started, whole, 300.0, 2
    )


def test_the_expected_time_follows_the_work_and_the_engine(tmp_path):
    wide = {"network": {"hidden": [128, 128], "activation": "tanh"}}
    slow, wider = (
        small.running(small.content(**changes), tmp_path, "torch") for changes in ({}, wide)
    )
    (cell,) = [cell for cell in slow.study.cells if cell.title == "fomaml inner 0.02, meta 0.01"]

    def seconds(started, seeds):
        return estimate.training(started, started.study.cell(cell.path), seeds)

    ten, twenty = seconds(slow, "0-9"), seconds(slow, "0-19")
    assert twenty - estimate.START == pytest.approx(2 * (ten - estimate.START))
    assert ten < seconds(wider, "0-9") < 4 * ten
    assert estimate.PACES.keys() == set(engine.NAMES)
    assert estimate.PACES["fused"].operations > estimate.PACES["torch"].operations


def test_an_evaluation_takes_as_long_as_the_step_rules_that_apply(tmp_path):
    protocol = {"shots": 5, "support": [0, 5], "updates": 3, "gaussian_process_length_scale": 1.0}
    entries = {
        "robustness": protocol,
        "one": {**protocol, "steps": ["own"]},
        "same": {**protocol, "steps": ["own", "common"]},
        "three": {**protocol, "steps": ["own", 0.05, "own x 4"]},
    }
    started = small.running(small.content(protocols=entries), tmp_path)

    def seconds(cell, group):
        return estimate.evaluation(started, started.study.cell(cell), group, "0-9") - estimate.START

    # Its own step is the common one, 0.02: both rules are one computation.
    assert seconds("reptile/published", "same") == seconds("reptile/published", "one")
    other = "reptile/inner 0.01, meta 0.1"
    assert seconds(other, "same") == pytest.approx(2 * seconds(other, "one"))
    assert seconds(other, "three") == pytest.approx(3 * seconds(other, "one"))
    # It has no own step, so that what is left of three rules is one.
    usual = seconds("random/published", "robustness")
    assert seconds("random/published", "three") == pytest.approx(usual / 2)
