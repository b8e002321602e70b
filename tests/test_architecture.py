"""The modules of the package: imports point one way, and nothing dangerous is imported.

Everything is read from the source, so that no path through the code is missed.
"""

import ast
import os
import subprocess
import sys

import modules
import pytest
import small
from modules import PACKAGE, folder, imports, module_name, own, rank, tree

import metabench

ONLY_IN = {
    "mlflow": ("views/tracking/",),
    "matplotlib": ("views/",),
    "seaborn": ("views/",),
    "torch": ("learning/", "records/states.py"),
    "pandas": ("analysis/", "views/"),
    "snakemake": ("workflow/snakefile.py", "workflow/modules.py"),
    "PIL": ("views/",),
}
"""Where a package may be imported; the files beside the folders may use torch too."""

FILES = modules.files()
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def place(path):
    """Return a file's place in the package, with slashes."""
    return path.relative_to(PACKAGE).as_posix()


def foreign(path):
    """Return the packages of others that a file imports."""
    return {name.split(".")[0] for name, _ in imports(path)} - {"metabench"}


def dotted(node):
    """Spell an attribute chain: ``np.random.rand``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@every_file
def test_imports_follow_the_law(path):
    wrong = [
        f"{place(path)}:{line} imports {place(other)}"
        for other, line in own(path)
        if rank(folder(other)) > rank(folder(path))
    ]
    assert not wrong


@pytest.mark.parametrize("name", (*modules.FOLDERS, ""))
def test_no_modules_of_a_folder_import_each_other_in_a_circle(name):
    assert modules.modules(name)


def test_architecture_md_has_the_modules_as_they_are():
    """`python tests/modules.py` renews the table."""
    assert modules.page() == modules.PAGE.read_text(encoding="utf-8")


BASIS = {
    "adaptation",
    "algorithm",
    "autograd",
    "encoder_decoder",
    "fields",
    "gaussian_head",
    "hyperparameters",
    "kernels",
    "linear",
    "network",
    "optimizers",
    "predictive",
    "recurrent",
    "step_sizes",
    "randomness",
    "tasks",
    "transformer",
}
"""What algorithms are made of."""


@every_file
def test_an_algorithm_knows_no_other_algorithm_and_nothing_but_its_basis(path):
    if place(path).startswith("learning/algorithms/") and path.name != "__init__.py":
        assert {module_name(other) for other, _ in own(path)} <= BASIS


@every_file
def test_what_computes_does_not_know_which_algorithms_there_are(path):
    """A new name in the registry, which they would import, would make every finished job stale."""
    if folder(path) == "learning":
        assert PACKAGE / "learning/algorithms/__init__.py" not in {other for other, _ in own(path)}


@every_file
@pytest.mark.parametrize("package", ONLY_IN)
def test_each_large_package_is_known_in_its_place_only(path, package):
    if package in foreign(path) and not (package == "torch" and not folder(path)):
        assert place(path).startswith(ONLY_IN[package])


# Of numpy.random only the counter-based generator, which is told its key.
GLOBAL_TORCH = {
    "manual_seed",
    "seed",
    "rand",
    "randn",
    "randint",
    "randperm",
    "normal",
    "bernoulli",
    "multinomial",
}
IN_PLACE = {
    "uniform_",
    "normal_",
    "random_",
    "bernoulli_",
    "exponential_",
    "rand_like",
    "randn_like",
    "randint_like",
}


STATES = {
    PACKAGE / "check_algorithm" / "surroundings.py": {
        "random",
        "torch.manual_seed",
        "np.random.seed",
        "np.random.get_state",
        "np.random.set_state",
    }
}
"""The one file that sets global random states, and puts them back: it sees whether algorithms leave
them alone.
"""


@every_file
def test_no_module_uses_a_global_random_state(path):
    allowed = STATES.get(path, set())
    assert "random" not in foreign(path) - allowed, "the random module of the standard library"
    for node in ast.walk(tree(path)):
        name = dotted(node)
        parts = name.split(".")
        if name not in allowed:
            assert not (
                parts[:2] in (["np", "random"], ["numpy", "random"])
                and parts[2:] not in ([], ["Philox"])
            ), name
            assert not (parts[0] == "torch" and parts[-1] in GLOBAL_TORCH), name
            assert parts[-1] not in IN_PLACE, name
    assert not [
        name
        for name, _ in imports(path)
        if name.startswith(("numpy.random", "torch.random", "torch.rand"))
    ]


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "torch.save",
    "os.system",
    "os.popen",
}
UNSAFE_NAMES = {
    "read_pickle",
    "to_pickle",
    "allow_pickle",
    "unsafe_load",
    "full_load",
    "UnsafeLoader",
    "FullLoader",
}


@every_file
def test_no_module_loads_a_pickle_runs_text_or_reads_unsafe_yaml(path):
    assert not foreign(path) & UNSAFE_MODULES
    for node in ast.walk(tree(path)):
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

    from metabench.study.reading import _UniqueKeyLoader

    assert issubclass(_UniqueKeyLoader, yaml.SafeLoader)


HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "seaborn",
    "snakemake",
    "mlflow",
    "pydantic",
    "yaml",
}


@pytest.mark.parametrize("module", ["metabench", "metabench.cli"])
def test_importing_the_package_or_its_command_line_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    environment = {**os.environ, "PYTHONPATH": str(small.ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == []


def test_the_package_under_test_is_the_one_beside_the_tests():
    assert metabench.__file__ == str(PACKAGE / "__init__.py")
