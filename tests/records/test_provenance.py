import shutil

import pytest
import small

from metabench.records import provenance
from metabench.records.provenance import canonical, code_digest, config_digest, describe, digest
from metabench.study import plans


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


def digests():
    code_digest.cache_clear()
    trained = {f"train {name}": plans.train_code(name) for name in NAMES}
    evaluated = {f"evaluate {name}": plans.evaluate_code(name) for name in NAMES}
    return trained | evaluated | {"baselines": plans.baselines_code()}


def both(*names):
    """Training and evaluation of algorithms."""
    return {f"{kind} {name}" for kind in ("train", "evaluate") for name in names}


TRAINING = {f"train {name}" for name in NAMES}
EVERYTHING = both(*NAMES) | {"baselines"}


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("learning/algorithms/fomaml.py", both("fomaml")),
        ("learning/algorithms/reptile.py", both("reptile")),
        ("learning/algorithms/protocol.py", EVERYTHING),
        ("learning/algorithms/__init__.py", set()),
        ("learning/linear.py", both("ridge")),
        ("learning/optimizers.py", EVERYTHING),
        ("learning/tasks/sine_or_line.py", EVERYTHING),
        ("learning/fields.py", EVERYTHING),
        ("learning/training.py", TRAINING),
        ("learning/evaluation.py", EVERYTHING),
        ("learning/network.py", EVERYTHING),
        ("learning/randomness.py", EVERYTHING),
        ("learning/baselines.py", {"baselines"}),
        ("check_algorithm.py", set()),
        ("records/forms.py", set()),
        ("analysis/statistics.py", set()),
        ("records/records.py", set()),
        ("study/plans.py", set()),
        ("study/config.py", set()),
        ("study/limits.py", set()),
        ("workflow/progress.py", set()),
        ("cli.py", set()),
    ],
)
def test_editing_a_file_makes_stale_what_runs_it_and_nothing_else(tree, file, stale):
    before = digests()
    path = tree / file
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert {name for name, value in digests().items() if value != before[name]} == stale


def test_editing_an_algorithm_of_ones_own_makes_stale_what_runs_it(tmp_path):
    mine = tmp_path / "nudge.py"
    mine.write_text("from metabench.learning.algorithms.reptile import *\n", encoding="utf-8")
    before = plans.train_code(str(mine)), plans.evaluate_code(str(mine))
    code_digest.cache_clear()
    mine.write_text(f"{mine.read_text(encoding='utf-8')}# edited\n", encoding="utf-8")
    assert not set(before) & {plans.train_code(str(mine)), plans.evaluate_code(str(mine))}


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
