"""The public names: what a custom algorithm imports, and the only stable interface."""

import ast
import os
import subprocess
import sys

import pytest
import small

import metabench

ADAPTATION = """
DESCENT YARDSTICK Adaptation Question adapted before_and_after descending descending_elementwise
one_copy_per_task path predicted mean_over_tasks
"""
ALGORITHM = """
Algorithm Batch Cost from_module initial_weights query_points require_mini_batches second_order_cost
support_and_query whole_task_cost
"""
HYPERPARAMETERS = """
Hyperparameters OuterLoop InnerLoop ContextSize InnerOptimizer InnerStepSize InnerSteps
MetaBatchSize MetaOptimizer MetaSchedule MetaStepSize Queries Shots Word
Count Field Interval NotNegative Number Positive
"""
ARITHMETIC = """
Network Maps Predictive Pulled Sizes gradient_of product solve normals permutations uniforms
"""
TASKS = "Points Task TaskBlock TaskDistribution lattice scale"
PUBLIC = " ".join((ADAPTATION, ALGORITHM, HYPERPARAMETERS, ARITHMETIC, TASKS)).split()
"""Take none away without a word in the changelog: somebody's file imports it."""

HEAVY = {"torch", "numpy", "scipy", "pandas", "pydantic", "yaml", "click", "snakemake", "mlflow"}


def test_the_public_names_are_these():
    assert sorted(metabench.__all__) == sorted(["__version__", *PUBLIC])
    assert len(set(PUBLIC)) == len(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_what_its_home_defines(name):
    found = getattr(metabench, name)
    home = sys.modules[metabench.HOMES[name]]
    assert found is getattr(home, name)
    defined_in = str(getattr(found, "__module__", ""))
    if defined_in.startswith("metabench"):  # neither a type nor a name of pydantic's
        assert defined_in.startswith(metabench.HOMES[name])


def test_public_names_are_listed_by_dir_and_imported_by_a_star():
    assert set(PUBLIC) <= set(dir(metabench))
    here = {}
    exec("from metabench import *", here)
    assert set(PUBLIC) <= set(here)


def test_a_name_that_is_not_public_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'metabench' has no attribute 'train'"):
        _ = metabench.train
    with pytest.raises(ImportError, match="cannot import name 'train'"):
        exec("from metabench import train")


def test_importing_metabench_imports_nothing_heavy_and_no_module_of_its_own():
    code = "import sys, metabench; dir(metabench); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(small.ROOT)}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    loaded = answer.stdout.split()
    assert not HEAVY & set(loaded)
    assert [name for name in loaded if name.startswith("metabench.")] == []


# Those of tests/wrong are FOMAML itself with one part that is wrong.
@pytest.mark.parametrize("folder", ["examples", "tests/right"])
def test_own_files_import_public_names_alone(folder):
    files = list((small.ROOT / folder).glob("*.py"))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("metabench"):
                assert node.module == "metabench", path.name
                assert {alias.name for alias in node.names} <= set(PUBLIC), path.name
