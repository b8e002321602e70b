"""All measurements of a cell, read from actually computed records."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import small

from metabench import jobs
from metabench.learning import training
from metabench.learning.evaluation import evaluate
from metabench.records import artifacts, headers, states
from metabench.records.artifacts import ArtifactError
from metabench.records.measured import Reader, infinite

PROTOCOLS = {
    "near": {
        "shots": 3,
        "support": [0.0, 5.0],
        "updates": 2,
        "gaussian_process_length_scale": 1.5,
    },
    "noisy": {
        "shots": 4,
        "support": [-5.0, 5.0],
        "updates": 3,
        "noise": [0.0, 0.5],
        "steps": ["own x 4", "common", "own"],
        "gaussian_process_length_scale": 2.0,
    },
}


def content():
    """A study of three seeds in two blocks, a cell that diverges and two groups of protocols."""
    return small.tiny(
        seeds=3,
        cells=[small.short_fomaml(6, [0.01, 1e6])],
        protocols=PROTOCOLS,
        validation={"tasks": 5, "interval": 4, "protocol": "near"},
    )


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """The study with all its records."""
    started = small.running(content(), tmp_path_factory.mktemp("study") / "tiny")
    small.compute(started)
    return started


@pytest.fixture
def copied(computed, tmp_path):
    """A copy whose files a test may spoil."""
    shutil.copytree(computed.layout.root, tmp_path / "tiny")
    return replace(computed, layout=type(computed.layout)(tmp_path / "tiny"))


def cell_of(started):
    return started.study.cell("fomaml/published")


def test_a_cell_is_its_blocks_of_seeds_one_after_the_other(computed):
    cell, reader = cell_of(computed), computed.reader
    assert computed.study.blocks == ["0-1", "2-2"]
    whole = reader.cell(cell)
    blocks = [reader.block(cell, seeds) for seeds in computed.study.blocks]
    assert whole.seeds.tolist() == [0, 1, 2]
    assert whole.theta.shape == (3, 25)
    for name, losses in whole.evaluation.items():
        assert losses.size == sum(block.evaluation[name].size for block in blocks), name
    for protocol in computed.study.protocols:
        for step in whole.steps(protocol):
            parts = [block.losses(protocol, step) for block in blocks]
            assert np.array_equal(whole.losses(protocol, step), np.concatenate(parts, axis=2))
    curves = [block.validation_loss for block in blocks]
    assert np.array_equal(whole.validation_loss, np.concatenate(curves, axis=1))


def test_a_cell_holds_what_training_and_evaluation_return(computed):
    cell, whole = cell_of(computed), computed.reader.cell(cell_of(computed))
    given = computed.study.train_settings(cell)
    state = training.train(given, (0, 1, 2), cell.value)
    assert whole.theta.tobytes() == state.theta.numpy().tobytes()
    assert np.array_equal(whole.validation_loss, infinite(state.validation_loss.numpy()))
    assert whole.meta_iterations.tolist() == [0, 4, 6]
    for group in computed.study.groups:
        settings = computed.study.evaluate_settings(cell, group)
        for name, array in states.from_tensors(evaluate(settings, state.theta, cell.value)).items():
            assert whole.evaluation[name].tobytes() == array.tobytes(), name


def test_every_protocol_of_every_group_is_there(computed):
    whole = computed.reader.cell(cell_of(computed))
    assert list(computed.study.groups) == ["near", "noisy"]
    assert whole.steps("near") == ["own", "common"]
    for protocol in computed.study.groups["noisy"]:
        assert whole.steps(protocol) == ["own", "common", "own x 4"], "the named rules come first"
    own = cell_of(computed).hyperparameters.inner_step_size
    protocol = next(iter(computed.study.groups["noisy"]))
    assert whole.step_size(protocol, "own x 4").tolist() == [4 * own] * 3


def test_regions_are_in_the_order_of_the_arrays(computed):
    losses = computed.reader.cell(cell_of(computed)).losses("near", "own")
    assert losses.shape == (3, 3, 3, 6)
    everywhere, seen, unseen = losses
    halves = (seen + unseen) / 2  # 25 of 50 points are seen
    assert np.allclose(everywhere, halves, rtol=1e-5, atol=0)
    assert not np.allclose(seen, unseen)


def test_a_run_has_diverged_where_theta_or_its_loss_before_adaptation_is_not_finite(computed):
    reader = computed.reader
    good = reader.cell(cell_of(computed))
    assert not good.diverged.any()
    (lost,) = (cell for cell in computed.study.cells if cell.role == "grid")
    found = reader.cell(lost)
    assert found.diverged.all() and not np.isfinite(found.losses("near", "own")[0, 0]).any()
    losses = good.evaluation["test/near/own"].copy()
    losses[0, 0, 1, 2] = np.inf  # one task of one run
    spoilt = replace(good, evaluation={**good.evaluation, "test/near/own": losses})
    assert spoilt.diverged.tolist() == [False, True, False]
    later = good.evaluation["test/near/own"].copy()
    later[0, 1, 1, 2] = np.inf
    adapted = replace(good, evaluation={**good.evaluation, "test/near/own": later})
    assert not adapted.diverged.any(), "an adaptation that diverges is not a run that did"


def test_what_is_no_number_is_infinite_and_so_is_its_mean(computed):
    assert infinite(np.array([1.0, np.nan, np.inf], np.float32)).tolist() == [1, np.inf, np.inf]
    good = computed.reader.cell(cell_of(computed))
    losses = good.evaluation["validation/near/own"].copy()
    losses[1, 2, 0] = np.nan
    spoilt = replace(good, evaluation={**good.evaluation, "validation/near/own": losses})
    found = spoilt.validation("near", "own")  # (update, run, task)
    assert found[1, 2, 0] == np.inf and np.isfinite(np.delete(found[1], 2, axis=0)).all()
    assert np.array_equal(found[0], losses[0].astype(float))


def test_a_cell_is_named_in_words_in_every_table(computed):
    head = computed.reader.cell(cell_of(computed)).head
    assert head["algorithm"] == "fomaml" and head["role"] == "published"
    assert head["cell"] == cell_of(computed).name and "meta 0.01" in head["cell"]


# What is refused.


def rewritten(path, change=lambda arrays: arrays, **header):
    """Write a file again with other arrays, or other entries of its header."""
    found, known = artifacts.read(path)
    del known["content"]
    artifacts.write(path, change(found), {**known, **header})


def paths(started, seeds="0-1", group="near"):
    cell, layout = cell_of(started), started.layout
    return {
        "train": layout.trained(cell.path, seeds),
        "evaluate": layout.evaluated(cell.path, group, seeds),
    }


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("config", "0" * 16), ("code", "0" * 16), ("engine", "abacus"), ("seeds", "2-2")],
)
def test_a_record_of_another_job_is_refused_with_what_differs(kind, key, value, copied):
    path = paths(copied)[kind]
    rewritten(path, **{key: value})
    with pytest.raises(ArtifactError, match=f"{path.name} was produced with a different {key}"):
        copied.reader.cell(cell_of(copied))


def test_records_of_another_engine_are_refused(copied):
    other = "torch" if copied.engine == "fused" else "fused"
    reader = Reader(copied.study, copied.layout, other)
    with pytest.raises(ArtifactError, match=f"different engine: expected {other}"):
        reader.cell(cell_of(copied))


def test_an_evaluation_of_another_theta_is_refused(copied):
    """The evaluation says which content it was made of."""
    path = paths(copied)["train"]
    rewritten(path, lambda arrays: arrays | {"theta": arrays["theta"] + 1})
    with pytest.raises(ArtifactError, match="different theta"):
        copied.reader.cell(cell_of(copied))


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_record_with_other_arrays_is_refused(kind, copied):
    path = paths(copied)[kind]
    rewritten(path, lambda arrays: arrays | {"colour": np.zeros(3)})
    with pytest.raises(ArtifactError, match=f"{path.name} is no record of its job: colour"):
        copied.reader.cell(cell_of(copied))


def test_a_checkpoint_in_the_place_of_a_record_is_refused(copied):
    cell, path = cell_of(copied), paths(copied)["train"]
    given, found = copied.study.train_settings(cell), []
    training.train(given, (0, 1), cell.value, after_interval=found.append)
    header = headers.training(given, "0-1", copied.engine)
    artifacts.write(path, states.from_state(found[0]), header)
    with pytest.raises(ArtifactError, match="not the record of a finished training"):
        copied.reader.cell(cell)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_missing_or_damaged_record_is_named(kind, copied):
    path = paths(copied)[kind]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=str(path)):
        copied.reader.cell(cell_of(copied))
    path.unlink()
    with pytest.raises(ArtifactError, match=str(path)):
        copied.reader.cell(cell_of(copied))


# Baselines and contents.


def test_the_baselines_of_all_groups_are_read_together(copied):
    found = copied.reader.baselines()
    for protocol in copied.study.protocols:
        assert found[f"test/{protocol}/zero"].shape[-1] == 6
    rewritten(copied.layout.baselines("noisy"), code="0" * 16)
    with pytest.raises(
        ArtifactError, match=r"noisy\.safetensors was produced with a different code"
    ):
        copied.reader.baselines()


def test_the_digest_of_all_contents_changes_with_any_record_and_with_no_header(copied):
    before = copied.reader.contents()
    assert before == copied.reader.contents()
    every = [*paths(copied).values(), *paths(copied, "2-2", "noisy").values()]
    for path in [*every, copied.layout.baselines("near")]:
        rewritten(path, code="0" * 16)
        assert copied.reader.contents() == before, "the same numbers by another source"
        name = next(iter(artifacts.read(path)[0]))
        rewritten(path, lambda arrays, name=name: arrays | {name: arrays[name] + 1})
        after = copied.reader.contents()
        assert after != before
        before = after


def test_a_group_that_is_added_leaves_the_records_of_the_others_in_use(copied):
    """Evaluation of one group is a record of its own: the new group is computed alone."""
    cell = cell_of(copied)
    kept = {path: path.read_bytes() for path in copied.layout.root.rglob("*.safetensors")}
    more = content()
    more["protocols"]["far"] = {**PROTOCOLS["near"], "support": [-5.0, 0.0]}
    larger = replace(copied, study=small.study(more))
    with pytest.raises(ArtifactError, match="far"):
        larger.reader.cell(cell)
    for seeds in larger.study.blocks:
        jobs.evaluate(larger, cell, "far", seeds)
    assert larger.reader.cell(cell).steps("far") == ["own", "common"]
    assert all(path.read_bytes() == whole for path, whole in kept.items())
