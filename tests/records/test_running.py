"""study.json: a study as it is run, shared by all jobs."""

import copy
import json
from pathlib import Path

import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import places, replaced, rich

from metabench import jobs
from metabench.learning import engine
from metabench.learning.engine import EngineError
from metabench.records import running
from metabench.records.artifacts import ArtifactError
from metabench.records.layout import Layout
from metabench.records.provenance import canonical
from metabench.study.config import ConfigError

PLANE = {
    "tasks": {"family": "plane-wave", "grid_points": 8},
    "showcase": {"amplitude": 1.0, "phase": 0.0, "direction": 0.5},
}
OWN = """
from metabench import Algorithm, Cost, OuterLoop, Positive
from metabench.learning.algorithms.random import meta_gradient, sample


class Hyperparameters(OuterLoop):
    strength: Positive = 0.5


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=lambda h, tasks: Cost(1, 1, 1),
    sample=sample,
    meta_gradient=meta_gradient,
)
"""


@pytest.fixture(autouse=True)
def _with_this_engine(choose_engine):
    """A study is read with its engine, which computes until the test ends."""
    choose_engine(engine.name())


def written(content, root):
    """The path of study.json of a study."""
    started = small.running(content, root)
    started.write()
    return started.layout.study


def json_text(study):
    """The settings of all jobs of a study, in their order."""
    for cell, _ in study.train_jobs:
        yield cell.path, canonical(study.train_settings(cell).model_dump(mode="json"))
    for cell, group, _ in study.evaluate_jobs:
        yield group, canonical(study.evaluate_settings(cell, group).model_dump(mode="json"))
    for group in study.groups:
        yield group, canonical(study.baseline_settings(group).model_dump(mode="json"))


STUDIES = {
    "flux": small.content(),
    "rich": rich(),
    "plane": small.tiny(**PLANE, cells=[small.RANDOM]),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_read_back_with_equal_settings_in_the_same_order(name, tmp_path):
    started = small.running(STUDIES[name], tmp_path)
    started.write()
    read = running.read(started.layout.study)
    assert read.layout == started.layout and read.engine == started.engine
    assert read.study.config == started.study.config
    assert list(json_text(read.study)) == list(json_text(started.study))
    assert list(read.study.protocols) == list(started.study.protocols)


def test_a_study_with_an_own_file_is_read_back(tmp_path):
    (tmp_path / "prox.py").write_text(OWN)
    group = {"algorithm": str(tmp_path / "prox.py"), "meta_step_size": 0.1, "strength": [0.5, 1]}
    path = written(small.tiny(cells=[group]), tmp_path)
    assert [cell.name for cell in running.read(path).study.cells] == [
        "meta 0.1",
        "meta 0.1, strength 1",
    ]


def test_a_study_is_written_once(tmp_path):
    path = written(small.content(), tmp_path)
    before = path.stat()
    written(small.content(), tmp_path)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    written(small.content(seeds=11), tmp_path)
    assert path.stat().st_ino != before.st_ino


def test_a_study_that_was_started_says_what_jobs_compute_whatever_its_file_says_now(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()
    Path("config/flux.yaml").write_text(json.dumps(small.content(seeds=3)))
    assert running.read("flux").study.config.seeds == 3
    written(small.content(), tmp_path / "results" / "flux")
    assert running.read("flux").study.config.seeds == 10
    assert running.read("config/flux.yaml").study.config.seeds == 3
    assert running.read("flux").layout == Layout(Path("results/flux"))


@pytest.mark.parametrize("name", ["absent", "../absent", "", "a b", "$(id)"])
def test_a_study_that_is_not_there_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="unknown study"):
        running.read(name)


# What stands in study.json, and what is said of it.
DAMAGED = {
    "nothing": ("", "not a JSON text"),
    "half of it": ('{"engine": "torch", "study": {', "not a JSON text"),
    "a list": ("[1]", "it must be a JSON object"),
    "no study": ('{"engine": "torch"}', "it must hold engine and study, it has engine"),
    "more": ('{"engine": "torch", "study": {}, "x": 1}', "it has engine, study, x"),
    "a key twice": ('{"engine": "torch", "engine": "fused", "study": {}}', "the duplicate key"),
    "an unknown engine": ('{"engine": "cuda", "study": {}}', "engine must be one of fused, torch"),
    "no engine": ('{"engine": null, "study": {}}', "engine must be one of fused, torch"),
    "a list of engines": ('{"engine": ["torch"], "study": {}}', "engine must be one of"),
    "NaN": ('{"engine": "torch", "study": {"seeds": NaN}}', "a number must be finite"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_study_json_is_named_with_what_to_do(name, tmp_path):
    text, expected = DAMAGED[name]
    path = tmp_path / "study.json"
    path.write_text(text)
    with pytest.raises(ArtifactError) as caught:
        running.read(path)
    message = str(caught.value)
    assert str(path) in message and expected in message and "\n" not in message
    assert message.endswith("delete the file and run the study again")


def test_bytes_that_are_no_text_are_named_too(tmp_path):
    path = tmp_path / "study.json"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ArtifactError, match=r"study\.json is not a study as it is run"):
        running.read(path)


@pytest.mark.parametrize("content", ["3", '"flux"', "null", "[]", "{}", '{"seeds": 3}'])
def test_a_study_json_that_holds_no_study_is_a_config_error(content, tmp_path):
    path = tmp_path / "study.json"
    path.write_text(f'{{"engine": "{engine.name()}", "study": {content}}}')
    with pytest.raises(ConfigError, match=r"study\.json"):
        running.read(path)


def test_a_study_is_worked_out_when_it_is_read_so_that_no_job_fails_of_a_mistake(tmp_path):
    path = written(small.content(), tmp_path)
    wrong = json.loads(path.read_text())
    wrong["study"]["showcase"] = {"amplitude": 1.0}
    wrong["study"]["cells"][0]["shot"] = 3
    path.write_text(json.dumps(wrong))
    file = tmp_path / "flux.yaml"
    file.write_text(json.dumps(wrong["study"]))
    for study in (path, file):
        with pytest.raises(ConfigError) as caught:
            running.read(study)
        assert [line.rsplit("(")[-1] for line in str(caught.value).split("\n")] == [
            "showcase)",
            "cells[0].shot)",
        ]


@settings(deadline=None, derandomize=True, database=None, max_examples=100)
@given(data=st.data())
def test_any_value_in_study_json_gives_a_study_or_a_clear_error(data, tmp_path_factory):
    whole = {"engine": engine.name(), "study": copy.deepcopy(STUDIES["plane"])}
    value = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.none())
    damaged = replaced(whole, data.draw(st.sampled_from(list(places(whole)))), data.draw(value))
    path = tmp_path_factory.getbasetemp() / "study.json"
    path.write_text(json.dumps(damaged))
    try:
        running.read(path)
    except (ConfigError, ArtifactError) as error:
        assert str(error)


def test_a_job_insists_on_the_engine_that_the_study_was_started_with(tmp_path, monkeypatch):
    path = written(small.tiny(cells=[small.RANDOM]), tmp_path)
    monkeypatch.setattr(engine, "library", lambda: None)  # as on a processor without the kernel
    path.write_text(path.read_text().replace('"engine": "torch"', '"engine": "fused"'))
    with pytest.raises(EngineError, match="fused"):
        started = running.read(path)
        jobs.train(started, started.study.cells[0], "0-1")


def test_a_job_computes_with_the_engine_that_the_study_was_started_with(tmp_path):
    path = written(small.tiny(cells=[small.RANDOM]), tmp_path)
    other = json.loads(path.read_text())
    path.write_text(json.dumps({**other, "engine": "torch"}))
    started = running.read(path)
    jobs.train(started, started.study.cells[0], "0-1")
    assert started.engine == "torch" == engine.name()
