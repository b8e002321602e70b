"""The expected memory of jobs, compared with measurements."""

from types import SimpleNamespace

import pandas as pd
import pytest
import small

from metabench.study import config
from metabench.workflow import estimate
from metabench.workflow.snakefile import Workflow

GROWTH = pd.read_csv(small.ROOT / "results" / "reference" / "speed" / "growth.csv")
ENGINE = "fused"
"""The engine that was measured."""


def grown(quantity, value, algorithm):
    """The study and the stack of a row of benchmarks/growth.py."""
    content = small.content()
    if quantity == "width":
        content["network"]["hidden"] = [value, value]
    if quantity == "shots":
        fixed = [g for g in content["cells"] if "equal_budget" not in g]
        content["cells"] = [g | {"shots": value} for g in fixed if g["algorithm"] == algorithm]
        grid = 5 * value if algorithm == "reptile" else 0
        content["tasks"]["grid_points"] = max(content["tasks"]["grid_points"], grid)
    return content, f"0-{(value if quantity == 'runs' else 10) - 1}"


@pytest.mark.parametrize("quantity", ["runs", "width", "shots"])
def test_the_expected_memory_is_what_was_measured_or_a_little_more(quantity, tmp_path):
    for row in GROWTH[GROWTH["quantity"] == quantity].itertuples():
        content, seeds = grown(quantity, row.value, row.algorithm)
        started = small.running(content, tmp_path, ENGINE)
        cell = started.study.cell(f"{row.algorithm}/published")
        expected = estimate.training_megabytes(started, cell, seeds)
        assert 0.97 < expected / row.peak_megabytes < 1.4, row


def test_a_job_asks_a_scheduler_for_more_than_its_stack_was_measured_to_hold(tmp_path):
    rows = GROWTH[(GROWTH["quantity"] == "runs") & (GROWTH["algorithm"] == "fomaml")]
    peak = rows.set_index("value")["peak_megabytes"]
    started = small.running(small.content(), tmp_path, ENGINE)
    job = Workflow(started, None)
    algorithm, cell = started.study.cell("fomaml/published").path.split("/")

    def wildcards(runs):
        return SimpleNamespace(
            algorithm=algorithm, cell=cell, group="standard", seeds=f"0-{runs - 1}"
        )

    for runs in (1, 10, 1000):
        assert peak[runs] + 500 < job.train_memory(wildcards(runs), 1) < 2 * peak[runs] + 600
        assert job.evaluate_memory(wildcards(runs), 1) > peak[1] + 500
    assert job.evaluate_memory(wildcards(1000), 1) > 5 * job.evaluate_memory(wildcards(10), 1)


def test_the_expected_memory_follows_what_is_held(tmp_path):
    content = config.read(small.ROOT / "benchmarks" / "workloads.yaml")
    started = small.running(content, tmp_path, ENGINE)

    def training(name, seeds, started=started):
        cell = started.study.cell(f"{name}/published")
        return estimate.training_megabytes(started, cell, seeds) - estimate.STARTED

    def evaluation(name, seeds):
        cell = started.study.cell(f"{name}/published")
        return estimate.evaluation_megabytes(started, cell, "standard", seeds) - estimate.STARTED

    for held in (training, evaluation):
        assert held("maml", "0-79") == pytest.approx(2 * held("maml", "0-39"))
        assert held("meta_sgd", "0-39") > held("fomaml", "0-39") > 0
    # Training keeps every update of the validation where an algorithm adapts in its own way.
    longer = small.running(content | {"validation": {"protocol": "standard"}}, tmp_path, ENGINE)
    before, after = (training("anil", "0-39", study) for study in (started, longer))
    assert after + estimate.STARTED > 1.5 * (before + estimate.STARTED)
