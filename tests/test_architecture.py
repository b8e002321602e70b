"""Imports flow one way, and nothing dangerous is imported: read from the source, so that no path is missed."""

import ast
import os
import subprocess
import sys

import pytest
import small

import metabench

PACKAGE = small.ROOT / "metabench"

# The law. A module may import from the rows above its own only; the files of a folder may import each other.
# A name that does not exist (yet) is harmless; a module that has no place here is not.
ORDER = (
    ("randomness", "provenance", "progress", "artifacts", "locks", "engine", "fields", "optimizers", "linear"),
    ("manifests",),
    ("tasks", "network"),
    ("adaptation",),
    ("algorithms",),
    ("config",),
    ("plans",),
    ("evaluation",),
    ("training", "baselines"),
    ("forms",),
    ("records", "prediction"),
    ("statistics", "frames"),
    ("selection", "conformance"),
    ("tables",),
    ("figures", "tracking", "headline", "verification", "literature"),
    ("freshness",),
    ("workflow",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(ORDER) for name in row}
LEAVES = {"randomness", "provenance", "progress", "artifacts", "locks", "engine", "fields", "optimizers", "linear"}
TENSORS = {
    "optimizers",
    "linear",
    "forms",
    "tasks",
    "network",
    "adaptation",
    "algorithms",
    "evaluation",
    "training",
    "baselines",
    "prediction",
    "conformance",
}
"""Modules that compute: torch here and not to the right of records, pandas to the right and not here."""
TABLES = {
    "statistics",
    "selection",
    "frames",
    "headline",
    "tables",
    "figures",
    "tracking",
    "verification",
    "literature",
    "freshness",
    "workflow",
}
ONLY_IN = {"mlflow": "tracking", "matplotlib": "figures", "seaborn": "figures", "snakemake": "workflow"}


def unit(path):
    """The row entry a file belongs to: its folder, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def imports(path):
    """Every name that a file imports anywhere, with its line: ``metabench.tasks.Bank``, ``torch``."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports are invisible to the code digests"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def foreign(path):
    """The packages of others that a file imports."""
    return {name.split(".")[0] for name, _ in imports(path)} - {"metabench"}


def own(path):
    """The modules of this package that a file imports, with the full name: ``tasks``, ``metabench.tasks.Bank``."""
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] == "metabench" and parts[1:] != ["__version__"]:
            yield parts[1], name, line


def dotted(node):
    """Spell an attribute chain: ``np.random.rand``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@every_file
def test_every_module_has_a_place_in_the_order(path):
    assert unit(path) in RANK


@every_file
def test_imports_only_point_to_earlier_rows(path):
    wrong = [
        f"{path.name}:{line} imports {name}"
        for other, name, line in own(path)
        if other != unit(path) and RANK[other] >= RANK[unit(path)]
    ]
    assert not wrong


@every_file
def test_leaves_import_nothing_of_the_package(path):
    assert unit(path) not in LEAVES or {other for other, _, _ in own(path)} <= {unit(path)}


def test_config_knows_names_of_algorithms_families_of_tasks_and_ranges_of_fields_and_no_more():
    files = [path for path in FILES if unit(path) == "config"]
    known = {(other, name) for path in files for other, name, _ in own(path) if other != "config"}
    assert {name for other, name in known if other != "fields"} == {
        "metabench.algorithms.NAMES",
        "metabench.tasks.AnyDistribution",
        "metabench.tasks.SineDistribution",
        "metabench.tasks.TaskDistribution",
    }
    assert {other for other, _ in known} == {"algorithms", "tasks", "fields"}


ARITHMETIC = {"adaptation", "network", "tasks", "linear", "optimizers", "randomness"}
"""What algorithms are made of."""


@every_file
def test_an_algorithm_knows_no_other_algorithm_and_nothing_but_arithmetic(path):
    if unit(path) == "algorithms":
        others = {name for other, name, _ in own(path) if other == "algorithms"}
        assert all(name.startswith("metabench.algorithms.protocol.") for name in others)
        assert {other for other, _, _ in own(path)} <= {"algorithms", *ARITHMETIC}


@every_file
def test_the_modules_that_jobs_compute_with_do_not_know_which_algorithms_there_are(path):
    """A new name in the registry, which they would import, would make every finished job stale."""
    if unit(path) in TENSORS - {"algorithms", "forms", "prediction", "conformance"}:
        others = {name for other, name, _ in own(path) if other == "algorithms"}
        assert all(name.startswith("metabench.algorithms.protocol.") for name in others)


@every_file
def test_torch_stays_left_of_records_and_pandas_right_of_it(path):
    if unit(path) in TABLES:
        assert "torch" not in foreign(path)
    if unit(path) in TENSORS:
        assert not foreign(path) & {"pandas", "pyarrow"}


@every_file
def test_only_records_knows_both_torch_and_pandas(path):
    assert unit(path) == "records" or not {"torch", "pandas"} <= foreign(path)


@every_file
@pytest.mark.parametrize("package", ONLY_IN)
def test_tracking_drawing_and_workflow_tools_are_each_known_in_one_place(path, package):
    assert package not in foreign(path) or unit(path) == ONLY_IN[package]


# Of numpy.random only the counter-based generator, which is told its key.
GLOBAL_TORCH = {"manual_seed", "seed", "rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"}
IN_PLACE = {"uniform_", "normal_", "random_", "bernoulli_", "exponential_", "rand_like", "randn_like", "randint_like"}


STATES = {
    PACKAGE / "conformance.py": {
        "random",
        "torch.manual_seed",
        "np.random.seed",
        "np.random.get_state",
        "np.random.set_state",
    }
}
"""The one file that sets global random states, and puts them back: it sees whether algorithms leave them alone."""


@every_file
def test_no_module_uses_a_global_random_state(path):
    allowed = STATES.get(path, set())
    assert "random" not in foreign(path) - allowed, "the random module of the standard library"
    for node in ast.walk(TREES[path]):
        name = dotted(node)
        parts = name.split(".")
        if name not in allowed:
            assert not (parts[:2] in (["np", "random"], ["numpy", "random"]) and parts[2:] not in ([], ["Philox"])), (
                name
            )
            assert not (parts[0] == "torch" and parts[-1] in GLOBAL_TORCH), name
            assert parts[-1] not in IN_PLACE, name
    assert not [name for name, _ in imports(path) if name.startswith(("numpy.random", "torch.random", "torch.rand"))]


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.save", "os.system", "os.popen"}
UNSAFE_NAMES = {"read_pickle", "to_pickle", "allow_pickle", "unsafe_load", "full_load", "UnsafeLoader", "FullLoader"}


@every_file
def test_no_module_loads_a_pickle_runs_text_or_reads_unsafe_yaml(path):
    assert not foreign(path) & UNSAFE_MODULES
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            assert name not in UNSAFE_CALLS, name
            keywords = {keyword.arg: dotted(keyword.value) for keyword in node.keywords}
            assert "allow_pickle" not in keywords
            assert not any(k.arg == "shell" for k in node.keywords), "no shell"
            if name == "yaml.load":
                assert keywords["Loader"].endswith(("SafeLoader", "_UniqueKeyLoader"))
        elif isinstance(node, ast.Attribute):
            assert node.attr not in UNSAFE_NAMES
            assert dotted(node) not in {"yaml.Loader", "yaml.CLoader"}


def test_our_yaml_loader_is_a_safe_one():
    import yaml

    from metabench.config.reading import _UniqueKeyLoader

    assert issubclass(_UniqueKeyLoader, yaml.SafeLoader)


HEAVY = {"torch", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "snakemake", "mlflow", "pydantic", "yaml"}


@pytest.mark.parametrize("module", ["metabench", "metabench.cli"])
def test_importing_the_package_or_its_command_line_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    environment = {**os.environ, "PYTHONPATH": str(small.ROOT)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def test_the_package_under_test_is_the_one_beside_the_tests():
    assert metabench.__file__ == str(PACKAGE / "__init__.py")
