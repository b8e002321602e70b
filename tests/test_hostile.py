"""Hostile input: none of it is executed, and none of it escapes its place."""

import ast
import contextlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import tomllib
from contextlib import chdir
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pipeline import copy, digests, snakemake
from small import FLUX, ROOT

from metabench.cli import main
from metabench.records.provenance import canonical
from metabench.records.running import Running
from metabench.study import config
from metabench.study.jobs import Study
from metabench.views.tracking import ui
from metabench.workflow.snakefile import Workflow

SOURCES = sorted(
    path for part in ("metabench", "benchmarks") for path in (ROOT / part).rglob("*.py")
)
RULES = [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile", *SOURCES]


# Nothing that runs text, reads objects of Python, or hands a line to a shell.
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "torch.save",
    "tempfile.mktemp",
}
CALLS |= {
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "runpy.run_path",
    "runpy.run_module",
    "yaml.unsafe_load",
}
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "joblib",
    "cloudpickle",
    "marshal",
    "shelve",
    "jsonpickle",
    "pty",
    "code",
}
WORDS = {
    "allow_pickle",
    "read_pickle",
    "to_pickle",
    "UnsafeLoader",
    "FullLoader",
    "full_load",
    "mktemp",
}


def dotted(node: ast.expr) -> str:
    """Spell an attribute chain: ``np.load``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(tree: ast.AST) -> list[str]:
    """Return what is unsafe in a source."""
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [name.name for name in names if name.name.split(".")[0] in MODULES]
            case ast.ImportFrom(module=module, names=names):
                found += [
                    f"{module}.{n.name}"
                    for n in names
                    if str(module).split(".")[0] in MODULES or n.name in WORDS
                ]
                found += [f"{module}.{n.name}" for n in names if f"{module}.{n.name}" in CALLS]
            case ast.Call(func=func, keywords=keywords):
                given = {keyword.arg: dotted(keyword.value) for keyword in keywords}
                loader = given.get("Loader") if dotted(func) == "yaml.load" else "_UniqueKeyLoader"
                bad = (
                    dotted(func) in CALLS
                    or "shell" in given
                    or loader != "_UniqueKeyLoader"
                    or WORDS & {*given}
                )
                found += [dotted(func)] if bad else []
            case ast.Attribute(attr=attr) if attr in WORDS:
                found.append(attr)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_text_reads_objects_or_calls_a_shell(path: Path) -> None:
    assert not unsafe(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "exec(text)",
        "import pickle",
        "from marshal import loads",
        "from os import system",
        "import shelve",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.full_load(text)",
        "os.system(line)",
        "subprocess.run(line, shell=True)",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "tempfile.mktemp()",
        "pd.read_pickle(path)",
    ],
)
def test_what_is_unsafe_is_seen(line: str) -> None:
    assert unsafe(ast.parse(line))


def shell_lines(path: Path) -> list[str]:
    """Return the commands of a file of rules, each in one line."""
    found = [
        block
        for _, block in re.findall(
            r'^( +)shell:\n((?:\1    ".*"\n)+)', path.read_text(), re.MULTILINE
        )
    ]
    return ["".join(re.findall(r'^ *"(.*)"$', block, re.MULTILINE)) for block in found]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_are_shell_lines_and_no_code_of_their_own(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(eval|exec|system|popen|pickle|__import__|shell)\(", text)
    assert not re.search(r"^ +(run|script|notebook|wrapper):", text, re.MULTILINE)
    assert len(shell_lines(path)) == len(re.findall(r"^ +shell:", text, re.MULTILINE))
    assert len(re.findall(r"^ *rule(?! all)\b.*:$", text, re.MULTILINE)) == len(shell_lines(path))


PLAIN = {
    *(f"wildcards.{name}" for name in ("algorithm", "cell", "group", "name", "seeds")),
    *(f"params.{name}" for name in ("study", "tables", "out", "store", "batch")),
    "log",
}
"""What a rule may write without quotes: names of checked patterns, and paths of such names."""


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_a_value_of_the_study_is_quoted_and_what_is_not_quoted_is_a_path_or_a_number(
    path: Path,
) -> None:
    for line in shell_lines(path):
        fields = re.findall(r"\{([^}]*)\}", line)
        assert {field for field in fields if not field.endswith(":q")} <= PLAIN, line
        assert "params.settings" not in fields and "{" not in re.sub(r"\{[^}]*\}", "", line)


@pytest.mark.parametrize("path", sorted(FLUX.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_every_path_of_a_study_is_plain(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FLUX.parent, "config")  # a study may be trained in another
    study = Workflow(Running.start(Study(config.load(path))), SimpleNamespace(is_main_process=True))
    files = [artefact.path for artefact in study.artefacts]
    for name in [*files, *study.tables, *study.figures, *study.literature, study.store]:
        assert re.fullmatch(r"(results/)?[a-zA-Z0-9_./+-]+", str(name)) and ".." not in str(name)


def test_a_server_of_mlflow_is_shown_to_this_machine_alone() -> None:
    lines = [
        line
        for path in PAGES
        for line in path.read_text(encoding="utf-8").splitlines()
        if "mlflow" in line.lower()
    ]
    assert ui.HOST == "127.0.0.1" and any("make ui" in line for line in lines)
    for line in lines:
        assert set(re.findall(r"--host[= ](\S+)", line)) <= {"127.0.0.1", "localhost"}, line
        assert "0.0.0.0" not in line


BY_NAME = {
    "pyarrow": ("metabench/analysis/frames.py", "to_parquet("),
    "snakemake": ("Makefile", "$(BIN)/snakemake "),
}
"""Dependencies that are not imported: the engine of pandas, and a command."""


@pytest.mark.parametrize(
    "name",
    [
        Requirement(text).name
        for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ],
)
def test_no_dependency_is_unused(name: str) -> None:
    if name in BY_NAME:
        path, text = BY_NAME[name]
        assert text in (ROOT / path).read_text()
    else:
        assert canonicalize_name(name) in owners_of_imports()


@cache
def owners_of_imports() -> set[str]:
    """Return the packages from which the package imports."""
    providers = importlib.metadata.packages_distributions()
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for path in SOURCES
        if path.is_relative_to(ROOT / "metabench")
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    return {
        canonicalize_name(owner) for m in modules for owner in providers.get(m.split(".")[0], [])
    }


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run metabench in a folder to its end, in this process."""
    with contextlib.chdir(folder):
        answer = CliRunner().invoke(main, list(arguments))
    return subprocess.CompletedProcess(arguments, answer.exit_code, answer.stdout, answer.stderr)


def refused(answer: subprocess.CompletedProcess[str], expected: str) -> None:
    """Hold that a program said one thing that is wrong, and nothing else."""
    messages = [
        line for line in answer.stderr.splitlines() if line.startswith(("metabench: ", "Error: "))
    ]
    assert answer.returncode == 2 and len(messages) == 1 and expected in messages[0], answer.stderr
    assert "Traceback" not in answer.stderr + answer.stdout


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
SMOKE = (ROOT / "config" / "smoke.yaml").read_text()

# What a file of a study says instead of config/smoke.yaml, and what the answer must say.
HOSTILE = {
    "a name that is a command": (
        SMOKE.replace("study: smoke", "study: $(touch HACKED)"),
        "study must be lower-case",
    ),
    "a name that is a path": (
        SMOKE.replace("study: smoke", "study: ../HACKED"),
        "study must be lower-case",
    ),
    "a name that goes on": (
        SMOKE.replace("study: smoke", r'study: "smoke\n"'),
        "study must be lower-case",
    ),
    "an algorithm that is a command": (
        SMOKE.replace("algorithm: joint", "algorithm: '`touch HACKED`'"),
        "algorithm",
    ),
    "a protocol that is a command": (
        SMOKE.replace("  standard: {", "  x; touch HACKED: {"),
        "a name must be lower-case",
    ),
    "a number that is a command": (
        SMOKE.replace("seeds: 3", "seeds: $(touch HACKED)"),
        "seeds must be an integer",
    ),
    "an object of Python": (
        f"{SMOKE}x: !!python/object/apply:os.system [touch HACKED]\n",
        "tags are not allowed",
    ),
    "aliases that double sixty times": (f"{SMOKE}{BOMB}", "aliases are not allowed"),
    "a file without end": (f"{SMOKE}# {'x' * 1_000_000}\n", "100000 bytes at most"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_command_refuses_a_hostile_study_and_writes_nothing(tmp_path: Path, name: str) -> None:
    text, expected = HOSTILE[name]
    path = tmp_path / "it's $(touch HACKED) `x`.v1.yaml"
    path.write_text(text)
    refused(command(tmp_path, "plan", "--config", path.name), expected)
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_refuses_a_template_without_running_it(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(f"__use_yte__: true\nx: ?__import__('os').system('touch HACKED')\n{SMOKE}")
    refused(
        command(tmp_path, "plan", "--config", path.name),
        "templates are not allowed, since they run code",
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "line",
    [
        ["train", "--study", "{}", "--cell", "a/b", "--seeds", "0-2"],
        ["tables", "--study", '{"study": NaN}'],
    ],
)
def test_the_command_refuses_a_study_that_is_none_and_writes_nothing(
    tmp_path: Path, line: list[str]
) -> None:
    refused(command(tmp_path, *line), "unknown study")
    assert not list(tmp_path.iterdir())


def test_the_command_takes_a_file_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / 'a b\'s "$(touch HACKED)".v1..yaml'
    path.write_text(SMOKE)
    answer = command(tmp_path, "plan", "--config", path.name)
    assert answer.returncode == 0 and "6 cells, 3 seeds" in answer.stdout
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workflow in a folder whose name a shell would take apart."""
    return copy(tmp_path_factory.mktemp("it's a $(touch HACKED) study"))


@pytest.mark.workflow
@pytest.mark.parametrize(
    "name", ["a name that is a command", "a protocol that is a command", "a name that is a path"]
)
def test_snakemake_refuses_a_hostile_study_before_anything_runs(folder: Path, name: str) -> None:
    text, expected = HOSTILE[name]
    (folder / "hostile.yaml").write_text(text)
    refused(snakemake(folder, "--cores", "1", config="hostile.yaml"), expected)
    assert not (folder / "results").exists() and not list(folder.parent.rglob("*HACKED"))


@pytest.mark.workflow
def test_snakemake_takes_a_file_of_any_name(folder: Path) -> None:
    name = 'a b\'s "$(touch HACKED)" {x}.v1..yaml'
    (folder / name).write_text(SMOKE)
    answer = snakemake(folder, "--cores", "1", "--dry-run", config=name)
    assert answer.returncode == 0, answer.stderr
    assert not list(folder.parent.rglob("HACKED"))


SOURCE = """--help '"'"'; touch HACKED; $(touch HACKED) `touch HACKED` "$(touch HACKED)" ${HOME} \
$HOME && touch HACKED
|| touch HACKED | tee HACKED > HACKED & {braces} {{twice}} {wildcards.cell} {params.settings:q} \
{input} %s %(x)s
\\'; touch HACKED; \\" \\\\ \\n !! * ~ # <(touch HACKED) äöü 学習 🌊 - ' " `"""


def tiny(source: str) -> dict[str, object]:
    """Return a study of two cells that trains for moments."""
    protocols = yaml.safe_load(SMOKE)["protocols"]
    cells = [
        {
            "algorithm": "joint",
            "meta_iterations": 20,
            "meta_batch_size": 1,
            "shots": 5,
            "meta_step_size": 0.01,
        },
        {"algorithm": "random", "meta_iterations": 0},
    ]
    banks = {
        "validation": {"tasks": 5, "interval": 10},
        "evaluation": {"tasks": 10, "tuning_step_sizes": [0.01, 0.02]},
    }
    rest = {
        "network": {"hidden": [8]},
        "statistics": {"resamples": 50},
        "protocols": protocols,
        "cells": cells,
    }
    return {"study": "smoke", "source": source, "seeds": 2, "seed_block": 2, **banks, **rest}


@pytest.mark.workflow
@pytest.mark.slow
def test_a_hostile_text_runs_nothing_and_moves_no_byte_of_a_table(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(
        yaml.safe_dump(tiny(SOURCE), allow_unicode=True), encoding="utf-8"
    )
    answer = snakemake(folder, "--cores", "2", "tables", config="tiny.yaml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not list(folder.parent.rglob("HACKED")) and not (ROOT / "HACKED").exists()
    root = folder / "results" / "smoke"
    assert canonical(SOURCE) in canonical(json.loads((root / "provenance.json").read_text()))
    hostile = digests(folder, "tables")
    started = json.loads((root / "study.json").read_text())
    plain = {**started, "study": {**started["study"], "source": "plain"}}
    (root / "study.json").write_text(json.dumps(plain))
    with chdir(folder):
        answer = CliRunner().invoke(main, ["tables", "--study", "results/smoke/study.json"])
    assert answer.exit_code == 0, answer.output
    assert digests(folder, "tables") == hostile and len(hostile) > 10
