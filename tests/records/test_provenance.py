import gzip
import shutil

import pytest
import small

from metabench.records import headers, provenance
from metabench.records.provenance import canonical, code_digest, config_digest, describe, digest


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the package that the digests are taken of, to edit."""
    copy = tmp_path / "metabench"
    shutil.copytree(small.ROOT / "metabench", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    code_digest.cache_clear()
    yield copy
    code_digest.cache_clear()


NAMES = ("fomaml", "reptile", "joint", "random", "ridge")


SETTINGS = {name: (small.train_settings(name, 5), small.evaluate_settings(name)) for name in NAMES}
BASELINES = small.baseline_settings({})


def digests():
    """The code digest of each job, by its name."""
    code_digest.cache_clear()
    found = {"baselines": headers.of_baselines(BASELINES)["code"]}
    for name, (training, evaluation) in SETTINGS.items():
        found[f"train {name}"] = headers.training(training, "0-1", "torch")["code"]
        found[f"evaluate {name}"] = headers.evaluation(evaluation, "0-1", "torch", "")["code"]
    return found


def both(*names):
    """Training and evaluation of algorithms."""
    return {f"{kind} {name}" for kind in ("train", "evaluate") for name in names}


TRAINING = {f"train {name}" for name in NAMES}
OF_ALGORITHMS = both(*NAMES)
EVERYTHING = OF_ALGORITHMS | {"baselines"}


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("learning/algorithms/fomaml.py", both("fomaml")),
        ("learning/algorithms/reptile.py", both("reptile")),
        ("learning/algorithm.py", OF_ALGORITHMS),
        ("learning/hyperparameters.py", EVERYTHING),
        ("learning/settings.py", EVERYTHING),
        ("learning/algorithms/__init__.py", set()),
        ("learning/linear.py", EVERYTHING),
        ("learning/step_sizes.py", EVERYTHING),
        ("learning/autograd.py", set()),
        ("learning/optimizers.py", OF_ALGORITHMS),
        ("learning/tasks/sine_or_line.py", EVERYTHING),
        ("learning/tasks/plane_wave.py", EVERYTHING),
        ("learning/tasks/sea_temperature.csv", EVERYTHING),
        ("learning/tasks/DATA.md", set()),
        ("learning/fields.py", EVERYTHING),
        ("learning/training.py", TRAINING),
        ("learning/evaluation.py", OF_ALGORITHMS),
        ("learning/held_out.py", EVERYTHING),
        ("learning/network.py", EVERYTHING),
        ("learning/randomness.py", EVERYTHING),
        ("learning/baselines/__init__.py", {"baselines"}),
        ("learning/baselines/processes.py", {"baselines"}),
        ("learning/scores.py", {"baselines"}),
        ("check_algorithm/__init__.py", set()),
        ("records/arrays.py", set()),
        ("records/states.py", set()),
        ("records/measured.py", set()),
        ("analysis/statistics/intervals.py", set()),
        ("study/cells.py", set()),
        ("study/cell_groups.py", set()),
        ("study/jobs.py", set()),
        ("study/config.py", set()),
        ("study/limits.py", set()),
        ("workflow/progress.py", set()),
        ("jobs.py", set()),
        ("cli.py", set()),
    ],
)
def test_editing_a_file_makes_stale_what_runs_it_and_nothing_else(tree, file, stale):
    before = digests()
    path = tree / file
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert {name for name, value in digests().items() if value != before[name]} == stale


def test_changing_compressed_data_makes_every_record_stale(tree):
    before, package = digests(), provenance.package_digest()
    path = tree / "learning/tasks/digits.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    path.write_bytes(gzip.compress(text.replace("0,0,5,", "0,0,6,", 1).encode(), mtime=0))
    assert {name for name, value in digests().items() if value != before[name]} == EVERYTHING
    assert provenance.package_digest() != package


CUSTOM = """
from metabench import {names}
from metabench.learning.algorithms.reptile import ALGORITHM
"""


@pytest.fixture
def custom(tmp_path):
    """An algorithm in a file, and settings of its training and its evaluation."""
    path = tmp_path / "nudge.py"
    path.write_text(CUSTOM.format(names="InnerLoop"), encoding="utf-8")
    changes = {"algorithm": str(path)}
    return path, *(given.model_copy(update=changes) for given in SETTINGS["reptile"])


def test_editing_a_custom_algorithm_makes_stale_what_runs_it(custom):
    path, training, evaluation = custom
    found = []
    for _ in range(2):
        code_digest.cache_clear()
        found.append(headers.training(training, "0-1", "torch"))
        found.append(headers.evaluation(evaluation, "0-1", "torch", ""))
        path.write_text(f"{path.read_text(encoding='utf-8')}# edited\n", encoding="utf-8")
    assert len({header["code"] for header in found}) == 4
    assert found[0]["algorithm_file"] != found[2]["algorithm_file"]
    of_package = headers.training(SETTINGS["reptile"][0], "0-1", "torch")
    assert of_package["algorithm_file"] is None, "one of this package has no file to lose"


def test_a_public_name_stands_for_the_module_that_defines_it(custom, tree):
    path, training, _ = custom
    digests = {}
    for names in ("InnerLoop", "InnerLoop, gradient_of"):
        path.write_text(CUSTOM.format(names=names), encoding="utf-8")
        for edited in (False, True):
            if edited:
                (tree / "learning" / "autograd.py").write_text("# edited\n", encoding="utf-8")
            code_digest.cache_clear()
            digests[names, edited] = headers.training(training, "0-1", "torch")["code"]
        shutil.copy(small.ROOT / "metabench" / "learning" / "autograd.py", tree / "learning")
    assert digests["InnerLoop", False] == digests["InnerLoop", True]
    assert digests["InnerLoop, gradient_of", False] != digests["InnerLoop, gradient_of", True]


def test_the_digest_of_a_copy_is_that_of_the_package(tree):
    copied = digests()
    provenance.PACKAGE = small.ROOT / "metabench"
    assert digests() == copied


def test_equal_settings_have_equal_digests_whatever_their_order():
    assert canonical({"b": 1, "a": [1.0, None]}) == '{"a":[1.0,null],"b":1}'
    assert config_digest({"b": 1, "a": 2}) == config_digest({"a": 2, "b": 1})
    assert config_digest({"a": 2}) != config_digest({"a": 2.5})


def test_settings_that_json_cannot_spell_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})


def test_a_digest_is_the_start_of_a_sha_256():
    # The well-known SHA-256 of "abc", FIPS 180-2, appendix B.1.
    assert digest("abc") == digest(b"abc") == "ba7816bf8f01cfea"


def test_the_description_names_commit_versions_and_processor():
    found = describe("torch")
    assert set(found["versions"]) == {"metabench", *provenance.VERSIONED}
    assert found["processor"]
    assert found["threads"] == 1
    assert found["commit"] is None or len(found["commit"]) == 40
