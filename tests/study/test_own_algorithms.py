"""A custom algorithm in a study: its own hyperparameter is treated like any other."""

import shutil
from itertools import pairwise

import numpy as np
import pytest
import small

from metabench import jobs
from metabench.records import artifacts, provenance
from metabench.study.messages import ConfigError

PROX = str(small.ROOT / "examples" / "prox.py")


def prox(**changes):
    """Return a study of examples/prox.py that trains for a short time."""
    steps = {"meta_batch_size": 2, "shots": 5, "inner_step_size": 0.02, "meta_step_size": 0.3}
    group = {"algorithm": PROX, "meta_iterations": 4, **steps, **changes}
    validation = {"tasks": 4, "interval": 2}
    return small.tiny(cells=[group], validation=validation)


def test_a_list_of_values_makes_a_cell_for_each_and_its_name_says_which():
    study = small.study(prox(strength=[0.1, 0.5, 2], inner_steps=[1, 3]))
    assert [cell.hyperparameters.strength for cell in study.cells] == [0.1, 0.1, 0.5, 0.5, 2, 2]
    names = [cell.name for cell in study.cells]
    assert len(set(names)) == 6
    assert names[0] == "inner 0.02, meta 0.3, batch 2, shots 5, strength 0.1, 4 iterations"
    assert names[3] == "inner 0.02, meta 0.3, batch 2, shots 5, steps 3, 4 iterations", (
        "its default"
    )
    assert "strength-0.1" in study.cells[0].path
    assert study.cell(f"prox/{names[4]}") == study.cells[4]


def test_a_value_that_is_not_given_is_the_default_and_a_published_cell_may_name_it():
    (alone,) = small.study(prox()).cells
    assert alone.hyperparameters.strength == 0.5
    marked = small.study(prox(strength=[0.1, 0.5], published={"strength": 0.5}))
    assert [cell.role for cell in marked.cells] == ["grid", "published"]
    assert marked.cell("prox/published").name == alone.name


def test_a_value_belongs_to_the_settings_that_a_record_depends_on():
    study = small.study(prox(strength=[0.1, 2]))
    dumped = [study.train_settings(cell).model_dump(mode="json") for cell in study.cells]
    assert [settings["hyperparameters"]["strength"] for settings in dumped] == [0.1, 2]
    for settings in dumped:
        del settings["hyperparameters"]["strength"]
    assert dumped[0] == dumped[1], "and nothing else differs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": 11}, r"strength must be less than or equal to 10, got 11 \(cells\[0\]"),
        ({"strength": [0.1, 0]}, "strength must be greater than 0, got 0"),
        ({"strength": "much"}, "strength must be a number, got 'much'"),
        ({"strength": [0.1, 0.1]}, "a list of values must have one or more, each once"),
        (
            {"force": 1.0},
            "unknown key 'force'; choose from the hyperparameters of prox: .*strength",
        ),
        ({"strenght": 1.0}, "unknown key 'strenght'; did you mean 'strength'"),
        ({"published": {"force": 1.0}}, "unknown key 'force'; choose from .*strength"),
    ],
)
def test_a_mistake_is_one_clear_line(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        _ = small.study(prox(**changes)).cells
    assert len(str(caught.value).splitlines()) == 1


def test_its_cells_train_and_are_evaluated_each_with_its_own_value(tmp_path):
    started = small.running(prox(strength=[0.1, 2, 10]), tmp_path)
    small.compute(started)
    records = [started.reader.cell(cell) for cell in started.study.cells]
    assert all(np.isfinite(record.theta).all() for record in records)
    assert not any(np.array_equal(a.theta, b.theta) for a, b in pairwise(records))
    path = started.layout.trained(records[1].cell.path, "0-1")
    settings = artifacts.read_header(path)["settings"]
    assert settings["algorithm"] == PROX and settings["hyperparameters"]["strength"] == 2


def test_a_trained_initialization_of_an_own_file_is_used_by_name(tmp_path):
    started = small.running(prox(strength=[0.1, 2]), tmp_path)
    cell = started.study.cell(
        "prox/inner 0.02, meta 0.3, batch 2, shots 5, strength 2, 4 iterations"
    )
    jobs.train(started, cell, "0-1")
    (points := tmp_path / "points.csv").write_text("x,y\n1,2\n-1,0.5\n")
    record = jobs.record_of(started, cell, 1)
    curve = jobs.predict(record, 1, points, 3, None, 5).splitlines()
    assert len(curve) == 6 and curve[0].startswith("x,")


def test_an_algorithm_without_an_outer_loop_must_not_be_told_to_train(tmp_path):
    with pytest.raises(ConfigError, match=r"random does not train, .*meta_iterations: 0 \(cells"):
        _ = small.study(small.tiny(cells=[{"algorithm": "random", "meta_iterations": 5}])).cells
    assert small.study(small.tiny(cells=[small.RANDOM])).cells


@pytest.mark.parametrize(
    "imports",
    ["from metabench import gradient_of", "from metabench import *", "import metabench as m"],
)
def test_the_digest_of_an_own_file_has_the_source_behind_the_public_names(
    imports, tmp_path, monkeypatch
):
    package = tmp_path / "metabench"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(small.ROOT / "metabench", package, ignore=ignored)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    (own := tmp_path / "own.py").write_text(imports)

    def digest():
        provenance.code_digest.cache_clear()
        return provenance.code_digest(str(own))

    before = digest()
    (package / "study" / "limits.py").write_text("")
    assert digest() == before, "which no algorithm is made of"
    (package / "learning" / "autograd.py").write_text("")
    assert digest() != before
    provenance.code_digest.cache_clear()
