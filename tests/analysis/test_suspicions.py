"""A finished study warns of cells that are equal, and of runs that never moved."""

from dataclasses import replace

import numpy as np
import pytest
import small

from metabench.analysis import suspicions

ZEROS = small.ROOT / "tests" / "wrong" / "zeros.py"
COPY = """
from metabench.learning.algorithms.fomaml import ALGORITHM
"""
SPELLED = {
    "meta_iterations": 6,
    "meta_batch_size": 2,
    "shots": 5,
    "inner_step_size": 0.02,
    "meta_step_size": 0.01,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The records of two algorithms that differ, of a copy, and of one that learns nothing."""
    folder = tmp_path_factory.mktemp("suspicious")
    (folder / "copy.py").write_text(COPY)
    cells = [
        {"algorithm": algorithm, **SPELLED}
        for algorithm in ("fomaml", "maml", str(folder / "copy.py"), str(ZEROS))
    ]
    validation = {"tasks": 4, "interval": 3}
    content = small.tiny(cells=[*cells, small.RANDOM], validation=validation)
    started = small.running(content, folder / "results")
    small.compute(started)
    return {cell.algorithm: started.reader.cell(cell) for cell in started.study.cells}


def test_a_study_warns_of_equal_cells_and_of_runs_that_never_moved(records):
    name = "batch 2, shots 5, 6 iterations"
    found = suspicions.warnings(list(records.values()))
    assert found == [
        "warning: zeros inner 0.02, meta 0.01, batch 2, shots 5, 6 iterations: 2 of 2 runs never "
        "moved (their validation loss is constant over 6 meta-iterations)",
        f"warning: fomaml inner 0.02, meta 0.01, {name} and "
        f"copy inner 0.02, meta 0.01, {name} learned the same numbers",
    ]


def test_cells_that_differ_and_cells_that_do_not_train_raise_no_suspicion(records):
    untrained = records["random"]
    twin = replace(untrained, cell=replace(untrained.cell, name="twin"))
    assert suspicions.warnings([records["fomaml"], records["maml"], untrained, twin]) == []


def test_cells_with_equal_losses_are_reported_though_they_learned_different_numbers(records):
    fomaml = records["fomaml"]
    other = replace(fomaml, cell=replace(fomaml.cell, name="other"), theta=fomaml.theta + 1)
    (line,) = suspicions.warnings([fomaml, other])
    assert line.endswith("fomaml other have the same losses, though they learned different numbers")


def test_diverged_cells_are_not_called_equal(records):
    def lost(record):
        nothing = np.full_like(record.theta, np.nan)
        evaluation = {name: np.full_like(a, np.nan) for name, a in record.evaluation.items()}
        curve = np.full_like(record.validation_loss, np.inf)
        return replace(record, theta=nothing, evaluation=evaluation, validation_loss=curve)

    assert suspicions.warnings([lost(records["fomaml"]), lost(records["maml"])]) == []


def test_one_run_that_never_moved_is_counted(records):
    fomaml = records["fomaml"]
    curve = fomaml.validation_loss.copy()
    curve[:, 1] = curve[0, 1]
    (line,) = suspicions.warnings([replace(fomaml, validation_loss=curve)])
    assert ": 1 of 2 runs never moved" in line
