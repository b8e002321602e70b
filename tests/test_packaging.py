"""The dependency files agree with each other and with what is installed."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT_TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT_TEXT)["project"]
DECLARED = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
]
EXTRAS = [
    Requirement(text)
    for name, group in PROJECT["optional-dependencies"].items()
    if name != "dev"
    for text in group
]
LOCK_LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
LOCKED = {
    canonicalize_name(name): Version(version)
    for name, version in (line.split("==") for line in LOCK_LINES)
}


SUPPORTED = [
    text.rpartition(" ")[2]
    for text in PROJECT["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", text)
]


def uv(*words):
    """What the locked uv answers, without a network."""
    line = [Path(sys.executable).parent / "uv", *words, "--offline", "--quiet"]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def exported(python, system, *words):
    """What uv.lock holds for a version of Python and a system."""
    bare = ("--no-emit-project", "--no-hashes", "--no-annotate", "--no-header")
    lines = map(
        Requirement, uv("export", "--frozen", "--extra", "dev", *bare, *words).stdout.splitlines()
    )
    where = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    return {
        canonicalize_name(line.name): Version(str(line.specifier).removeprefix("=="))
        for line in lines
        if line.marker is None or line.marker.evaluate(where)
    }


def test_pyproject_allows_the_pythons_that_it_names_and_no_others():
    allowed = SpecifierSet(PROJECT["requires-python"])
    minors = [int(version.removeprefix("3.")) for version in SUPPORTED]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert [minor for minor in range(50) if f"3.{minor}.0" in allowed] == minors


def test_uv_lock_is_that_of_pyproject():
    answer = uv("lock", "--check")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("python", SUPPORTED)
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_uv_lock_has_the_versions_of_the_other_lock(python, system):
    found = exported(python, system)
    assert {name: version.public for name, version in found.items()} == {
        name: str(version) for name, version in LOCKED.items()
    }


def test_uv_lock_has_torch_without_cuda_unless_asked_otherwise():
    default, other = exported("3.11", "linux"), exported("3.11", "linux", "--no-group", "cpu")
    assert default["torch"].local == "cpu" and other["torch"].local is None
    assert not [name for name in default if name.startswith(("cuda", "nvidia"))]
    assert [name for name in other if name.startswith("nvidia")]


def test_every_line_of_the_lock_is_a_plain_exact_version():
    odd = [
        line
        for line in LOCK_LINES
        if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)
    ]
    assert not odd, (
        "no paths, addresses, hashes or local suffixes: they bind the lock to one machine"
    )


def test_the_lock_names_each_package_once():
    assert len(LOCKED) == len(LOCK_LINES)


@pytest.mark.parametrize(
    "requirement", [r for r in DECLARED if r not in EXTRAS], ids=lambda r: r.name
)
def test_the_locked_version_satisfies_pyproject(requirement):
    assert LOCKED[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("requirement", EXTRAS, ids=lambda r: r.name)
def test_an_extra_package_is_exact_by_itself_and_not_in_the_lock(requirement):
    assert str(requirement.specifier).startswith("==")
    assert canonicalize_name(requirement.name) not in LOCKED


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_a_dependency_has_its_reason_on_its_line(requirement):
    lines = [
        line
        for line in PYPROJECT_TEXT.splitlines()
        if line.strip().startswith(f'"{requirement.name}')
    ]
    assert any(
        re.search(rf'^\s*"{re.escape(str(requirement.name))}[^"]*", # \S', line) for line in lines
    )


def _imported_packages():
    for path in (ROOT / "metabench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield node.module.split(".")[0]


def test_metabench_imports_only_what_its_runtime_dependencies_name():
    providers = importlib.metadata.packages_distributions()
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    foreign = set(_imported_packages()) - sys.stdlib_module_names - {"metabench"}
    undeclared = {
        name
        for name in foreign
        if not declared & set(map(canonicalize_name, providers.get(name, [])))
    }
    assert not undeclared


@pytest.mark.parametrize("name", ["mlflow", "numpy", "pandas", "snakemake", "torch"])
def test_the_installed_version_is_the_locked_one(name):
    installed = Version(importlib.metadata.version(name))
    assert Version(installed.public) == LOCKED[name], "run `make setup`"


def test_the_conda_environment_has_an_allowed_python_and_takes_the_rest_from_the_lock():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))[
        "dependencies"
    ]
    pythons = [
        text.removeprefix("python=") for text in dependencies if str(text).startswith("python=")
    ]
    assert len(pythons) == 1
    assert Version(pythons[0]) in SpecifierSet(PROJECT["requires-python"])
    assert [item["pip"] for item in dependencies if isinstance(item, dict)] == [
        ["-r requirements.lock", "-e ."]
    ]
    assert set(map(str, dependencies[:-1])) == {f"python={pythons[0]}", "pip"}, (
        "everything else is in the lock"
    )


def test_docker_leaves_out_of_an_image_what_the_others_do() -> None:
    of_docker = ROOT / "Containerfile.dockerignore"  # Docker does not read .containerignore
    assert of_docker.read_text() == (ROOT / ".containerignore").read_text()


def test_the_container_has_an_allowed_python_the_locked_versions_and_an_ordinary_user():
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    pythons = set(re.findall(r"^FROM \S+/python:([0-9.]+)-slim", text, re.MULTILINE))
    assert len(pythons) == 1
    assert Version(pythons.pop()) in SpecifierSet(PROJECT["requires-python"])
    installs = re.findall(r"pip install (.+)$", text, re.MULTILINE)
    assert [line.split("--no-cache-dir ")[1] for line in installs] == [
        "--requirement requirements.lock",
        "--no-deps --no-build-isolation --editable .",
    ], "everything is in the lock"
    *_, last = text.split("\nFROM ")
    assert re.findall(r"^USER (\d+)$", last, re.MULTILINE) == ["1000"]


def test_the_workflow_catalog_names_a_study_that_exists():
    text = (ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8")
    usage = yaml.safe_load(text)["usage"]
    option, study = usage["mandatory-flags"]["flags"].split()
    assert option == "--configfile" and (ROOT / study).is_file()
    assert (ROOT / "config" / "README.md").is_file() and usage["report"] is True


def test_the_version_is_the_same_in_pyproject_and_in_the_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]


def test_an_installed_package_has_every_file_that_its_source_has(tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    unwanted = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "metabench", tmp_path / "metabench", ignore=unwanted)
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", "installed"]
    subprocess.run(command, cwd=tmp_path, check=True)
    source, installed = (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "metabench", tmp_path / "installed" / "metabench")
    )
    assert installed == source
