"""The tests are tested: a fault planted in a copy of the package must make the tests named for it
fail.

A fault is one replacement in one file of the copy. Every named test must fail under it, and pass
without it.
"""

import os
import shutil
import subprocess
import sys
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
import small


class Fault(NamedTuple):
    """A mistake that somebody could make, and the tests that stand guard over it."""

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


TASKS, ALGORITHMS, TABLES = (
    "learning/test_tasks.py",
    "learning/test_algorithms.py",
    "analysis/test_tables.py",
)
FAMILIES, OPTIMIZERS = "learning/test_families.py", "learning/test_optimizers.py"

FAULTS = {
    "the phase has the other sign": Fault(
        "learning/tasks/sine.py",
        "(turns + self.phase[..., None, None])",
        "(turns - self.phase[..., None, None])",
        (
            f"{TASKS}::test_the_sine_has_the_flux_scripts_sign_of_phase",
            f"{FAMILIES}::test_minus_takes_the_phase_from_x",
        ),
    ),
    "a line has the phase of a wave for its slope": Fault(
        "learning/tasks/sine_or_line.py",
        "self.slope[..., None, None] * x",
        "self.phase[..., None, None] * x",
        (f"{FAMILIES}::test_a_task_is_a_wave_or_a_line",),
    ),
    "every seed trains on the same few tasks": Fault(
        "learning/tasks/streams.py",
        'uniforms(s, "train-tasks", 0,',
        'uniforms(0, "train-tasks", 0,',
        (
            f"{FAMILIES}::test_a_run_visits_as_many_training_tasks_as_there_are_and_each_seed_has_its_own",
        ),
    ),
    "the noise of a bank is that of its points": Fault(
        "learning/tasks/streams.py",
        'noise = f"{self.purpose}-noise"',
        "noise = self.purpose",
        (f"{FAMILIES}::test_the_noise_of_a_label_has_nothing_to_do_with_its_point",),
    ),
    "Adam forgets that it began with nothing": Fault(
        "learning/optimizers.py",
        "m.div(root).div_(1 - self.beta1 ** (done + 1))",
        "m.div(root)",
        (f"{OPTIMIZERS}::test_the_first_step_of_adam_has_its_size_whatever_the_gradient",),
    ),
    "the outer step grows as training goes on": Fault(
        "learning/optimizers.py",
        '"linear": lambda done: 1 - done,',
        '"linear": lambda done: done,',
        (
            f"{OPTIMIZERS}::test_a_schedule_begins_with_the_whole_step_and_ends_with_none[linear-0.75-0.5-0.0]",
        ),
    ),
    "FOMAML averages over tasks": Fault(
        "learning/algorithms/fomaml.py",
        "return network.summed_gradient(copies, *query, after=inner_loop)",
        "return network.summed_gradient(copies, *query, after=inner_loop) / h.meta_batch_size",
        (
            f"{ALGORITHMS}::test_fomaml_sums_over_tasks",
            f"{ALGORITHMS}::test_fomaml_with_inner_step_0_sums_the_query_gradients_at_the_initialization",
        ),
    ),
    "FOMAML's query set is fresh points": Fault(
        "learning/algorithms/protocol.py",
        "tasks.query(h.queries)",
        "tasks.query(h.queries or len(tasks.grid))",
        (f"{ALGORITHMS}::test_fomaml_draws_fresh_support_points_and_queries_the_grid",),
    ),
    "FOMAML takes the query gradient at the initialization": Fault(
        "learning/algorithms/fomaml.py",
        "network.summed_gradient(copies, *query, after=inner_loop)",
        "network.summed_gradient(copies, *query)",
        (f"{ALGORITHMS}::test_fomaml_takes_the_query_gradient_at_the_adapted_parameters",),
    ),
    "Reptile moves away from the adapted parameters": Fault(
        "learning/algorithms/reptile.py",
        "return theta - mean_over_tasks(phi)",
        "return mean_over_tasks(phi) - theta",
        (
            f"{ALGORITHMS}::test_reptile_moves_a_tenth_of_the_way_towards_the_adapted_parameters",
            f"{ALGORITHMS}::test_reptiles_direction_is_the_sum_of_its_inner_steps",
        ),
    ),
    "Reptile draws its mini-batches with replacement": Fault(
        "learning/tasks/streams.py",
        "order, y = self.shuffles()[..., : count * shots], self.query().y",
        "order, y = ((self.support(count * shots).x[..., 0] + 5) * 5).long(), self.query().y",
        (f"{ALGORITHMS}::test_reptiles_mini_batches_are_disjoint_and_together_the_grid",),
    ),
    "the Hessian bends the activation the other way": Fault(
        "learning/network.py",
        "return (gradient * h).mul_(change).mul_(-2)",
        "return (gradient * h).mul_(change).mul_(2)",
        (
            "learning/test_network.py::test_the_hand_written_hessian_product_is_the_slope_of_the_gradient[torch-tanh]",
        ),
    ),
    "the test bank holds the validation tasks": Fault(
        "learning/tasks/streams.py",
        "uniforms(self.study, self.purpose, 0, width * self.tasks)",
        'uniforms(self.study, "validation-bank", 0, width * self.tasks)',
        (f"{TASKS}::test_no_validation_task_is_in_the_test_bank",),
    ),
    "a run sees the random numbers of its neighbour": Fault(
        "learning/tasks/streams.py",
        "draw(seed, b) for b in blocks",
        "draw(self.stream.seeds[0], b) for b in blocks",
        (
            f"{TASKS}::test_the_tasks_of_a_run_do_not_depend_on_its_neighbours",
            "learning/test_training.py::test_a_run_does_not_notice_its_neighbours[torch-fomaml]",
        ),
    ),
    "a stale file passes for a fresh one": Fault(
        "workflow/staleness.py",
        "artefact.read(artefact.path), wanted)",
        "artefact.read(artefact.path), {})",
        (
            "test_freshness.py::test_edited_source_outdates_what_it_makes_and_all_that_is_made_of_that",
        ),
    ),
    "a checkpoint of another study is gone on from": Fault(
        "records/records.py",
        "artifacts.require(path, header, expected)\n        return _state",
        "return _state",
        ("test_cli.py::test_a_checkpoint_that_cannot_be_trusted_is_said_and_not_used[foreign]",),
    ),
    "verification is blind to half of a loss": Fault(
        "analysis/verification.py",
        "TOLERANCE = 0.005",
        "TOLERANCE = 0.5",
        (
            "analysis/test_verification.py::test_five_percent_in_any_cell_of_the_committed_reference_exceed_rounding",
        ),
    ),
    "diverged runs are dropped from the mean": Fault(
        "analysis/tables/aggregate.py",
        "mean = mean_interval(losses, confidence)",
        "mean = mean_interval(losses[finite.all(-1)] if finite.all(-1).any() else losses, confidence)",
        (f"{TABLES}::test_one_diverged_seed_of_many_makes_the_mean_infinite_and_is_counted",),
    ),
}
NAMED = tuple(sorted({test for fault in FAULTS.values() for test in fault.tests}))

WITNESS = """
from pathlib import Path
import metabench

def test_the_copy_is_under_test():
    assert Path(metabench.__file__).resolve().parent == Path(__file__).resolve().parents[2] / "metabench"
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of package, tests, config and reference tables, with a test that it is the copy that
    is tested.
    """
    for name in ("metabench", "tests", "config", "results/reference/flux/tables"):
        shutil.copytree(
            small.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(small.ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "test_witness.py").write_text(WITNESS, encoding="utf-8")
    return tmp_path


QUICK = (
    "-p",
    "no:cacheprovider",
    "-p",
    "no:hypothesispytest",
    "-p",
    "no:xdist",
)  # plugins that cost a start-up


def outcomes(copy, tests):
    """Run tests in a copy; return those that passed and those that failed an assertion, by name
    without parameters.
    """
    selected = [f"tests/{test}" for test in ("test_witness.py", *tests)]
    command = [sys.executable, "-m", "pytest", "-q", *QUICK, "--junitxml=outcomes.xml", *selected]
    done = subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), (
        done.stdout + done.stderr
    )  # 1: some failed; more: pytest could not run them
    passed, failed = set(), set()
    for case in ElementTree.parse(copy / "outcomes.xml").iter("testcase"):
        name, failure = case.attrib["name"].split("[")[0], case.find("failure")
        assert case.find("error") is None, name
        assert (
            failure is None
            or "AssertionError" in failure.attrib["message"]
            or "assert" in failure.text
        ), failure.text
        (passed if failure is None else failed).add(name)
    assert "test_the_copy_is_under_test" in passed
    return passed - {"test_the_copy_is_under_test"}, failed


def names(tests):
    return {test.split("::")[1].split("[")[0] for test in tests}


@pytest.mark.slow
def test_without_a_fault_every_named_test_passes(copy):
    assert outcomes(copy, NAMED) == (names(NAMED), set())


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_makes_its_tests_fail(name, copy):
    fault = FAULTS[name]
    path = copy / "metabench" / fault.file
    source = path.read_text(encoding="utf-8")
    assert source.count(fault.right) == 1, "the line has changed: plant the fault in the new one"
    path.write_text(source.replace(fault.right, fault.wrong), encoding="utf-8")
    assert outcomes(copy, fault.tests) == (set(), names(fault.tests))
