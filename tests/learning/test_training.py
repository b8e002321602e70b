import gc
from dataclasses import replace
from math import sqrt

import pytest
import small
import torch

from metabench.learning import algorithms, training
from metabench.learning.evaluation import Step, final_losses
from metabench.learning.held_out import held_out
from metabench.learning.network import Network
from metabench.learning.tasks import SineDistribution, TaskStream
from metabench.learning.training import State, begin, train

ALGORITHMS = ("fomaml", "joint", "reptile")
FLUX = Network((1, 64, 64, 1))
RELU = {"activation": "relu"}


def run(settings, seeds, **more):
    return train(settings, seeds, algorithms.load(settings.algorithm), **more)


def states(settings, seeds, **more):
    """The states after each validation."""
    found = []
    run(settings, seeds, after_interval=found.append, **more)
    return found


def start(algorithm, seeds):
    """The state before the first meta-iteration."""
    return begin(
        algorithms.load(algorithm), FLUX, seeds, small.published(algorithm).hyperparameters
    )


def same_bits(a, b):
    """Whether two tensors agree bit for bit, NaN included."""
    return torch.equal(a.nan_to_num(nan=-1.0), b.nan_to_num(nan=-1.0)) and torch.equal(
        a.isnan(), b.isnan()
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_does_not_notice_its_neighbours(algorithm, each_engine):
    settings = small.train_settings(algorithm, 12)
    stacks = [(3,), (3, 5), (0, 3), (8, 1, 3, 6, 2)]
    alone, *others = (run(settings, seeds) for seeds in stacks)
    for seeds, stack in zip(stacks[1:], others, strict=True):
        r = seeds.index(3)
        assert torch.equal(stack.theta[r], alone.theta[0]), seeds
        assert torch.equal(stack.validation_loss[:, r], alone.validation_loss[:, 0]), seeds


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_validation_interval_does_not_change_what_is_learned(algorithm, each_engine):
    thetas = [
        run(small.train_settings(algorithm, 12, validation={"interval": n}), (0, 1)).theta
        for n in (1, 5, 12, 1000)
    ]
    assert all(torch.equal(theta, thetas[0]) for theta in thetas)


def test_each_meta_iteration_has_the_hyperparameters_of_its_part_of_training():
    settings = small.train_settings("maml_plus_plus", 4, hyperparameters={"annealing": 1.0})
    algorithm, found = algorithms.load("maml_plus_plus"), []

    def meta_gradient(network, theta, batch, h):
        found.append(h.earlier_losses)
        return algorithm.meta_gradient(network, theta, batch, h)

    train(settings, (0,), replace(algorithm, meta_gradient=meta_gradient))
    assert found == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_validation_curve_begins_before_training_and_ends_after_it(algorithm):
    settings = small.train_settings(algorithm, 12, validation={"interval": 5})
    found = [start(algorithm, (0, 1)), *states(settings, (0, 1))]
    assert [state.meta_iteration for state in found] == [0, 5, 10, 12]
    tasks = held_out(small.protocol(5, (0.0, 5.0)), SineDistribution(), "validation-bank", 4)
    step = Step(torch.full((2,), 0.02, dtype=torch.float64))
    curve = found[-1].validation_loss
    assert curve.shape == (4, 2)
    for state, entry in zip(found, curve, strict=True):
        losses = final_losses(small.plain(FLUX), state.theta.double(), tasks, 10, step)
        expected = losses.mean(-1)
        torch.testing.assert_close(entry, expected, rtol=1e-4, atol=1e-5)  # float32 against float64


def test_going_on_from_any_state_gives_the_same_bits(each_engine):
    settings = small.train_settings(
        "reptile", 1012, network={"hidden": [6]}, validation={"interval": 101}
    )
    whole = states(settings, (0, 1))
    assert [state.meta_iteration for state in whole[-3:]] == [909, 1010, 1012]
    # Within a block of the stream, before its end, and after it.
    for middle in (whole[0], whole[-3], whole[-2]):
        again = run(settings, (0, 1), state=middle)
        assert again.meta_iteration == 1012
        assert torch.equal(again.theta, whole[-1].theta)
        assert torch.equal(again.validation_loss, whole[-1].validation_loss)


JOINT = algorithms.load("joint")
DIVERGING = {"network": RELU, "hyperparameters": {"meta_step_size": 1.0}}


@pytest.mark.parametrize("changes", [{}, DIVERGING], ids=["", "diverging"])
def test_steps_in_one_call_have_the_bits_of_steps_one_after_the_other(changes, each_engine):
    settings = small.train_settings("joint", 1012, validation={"interval": 303}, **changes)
    together, singly = (
        train(settings, (0, 1, 2), algorithm) for algorithm in (JOINT, replace(JOINT, descend=None))
    )
    assert bool(together.diverged_at.any()) == bool(changes)
    for a, b in zip(together[1:], singly[1:], strict=True):
        assert same_bits(a, b)


@pytest.mark.parametrize(
    "rule", [{"meta_optimizer": "adam"}, {"meta_schedule": "linear"}, {"meta_clip": 0.1}]
)
def test_only_steps_of_plain_descent_are_taken_in_one_call(rule):
    def descend(network, theta, batches, size):
        raise AssertionError("called")

    called = replace(JOINT, descend=descend)
    with pytest.raises(AssertionError, match="called"):
        train(small.train_settings("joint", 3), (0, 1), called)
    train(small.train_settings("joint", 3, hyperparameters=rule), (0, 1), called)


def test_a_finished_training_is_left_as_it_is():
    settings = small.train_settings("fomaml", 5)
    done = run(settings, (0,))
    called = []
    assert run(settings, (0,), state=done, after_interval=called.append) is done
    assert not called


@pytest.mark.parametrize("before", [False, True], ids=["", "frozen by somebody else"])
def test_the_garbage_collector_is_left_as_it_was(before):
    def during(state):
        seen.append(gc.get_freeze_count())
        raise InterruptedError

    seen = []
    try:
        if before:
            gc.freeze()
        frozen = gc.get_freeze_count()
        with pytest.raises(InterruptedError):
            run(small.train_settings("fomaml", 2), (0,), after_interval=during)
        assert gc.get_freeze_count() == frozen and seen[0] > 0
    finally:
        gc.unfreeze()


def test_random_initialization_stays_what_it_was_and_is_validated_once():
    state = run(small.train_settings("random", 0), (0, 4))
    assert torch.equal(state.theta, start("random", (0, 4)).theta)
    assert state.validation_loss.shape == (1, 2)


def test_seeds_are_trained_on_tasks_of_their_own():
    settings = small.train_settings("fomaml", 1)
    same = start("fomaml", (0, 0))
    moved = run(
        settings,
        (0, 1),
        state=same._replace(validation_loss=torch.zeros(1, 2, dtype=torch.float64)),
    ).theta
    assert not torch.equal(moved[0], moved[1])


OUTER = {
    "sgd": lambda theta: torch.optim.SGD([theta], lr=1.0),
    "adam": lambda theta: torch.optim.Adam([theta], lr=1.0),
}
SHARES = {
    "constant": (1.0, 1.0, 1.0, 1.0),
    "linear": (1.0, 0.75, 0.5, 0.25),
    "cosine": (1.0, (1 + sqrt(0.5)) / 2, 0.5, (1 - sqrt(0.5)) / 2),
}


@pytest.mark.parametrize("schedule", SHARES)
@pytest.mark.parametrize("optimizer", OUTER)
def test_the_outer_update_is_that_of_its_optimizer_at_the_size_of_its_schedule(optimizer, schedule):
    h = {"meta_optimizer": optimizer, "meta_schedule": schedule, "meta_step_size": 0.01}
    settings = small.train_settings("fomaml", 4, hyperparameters=h)
    fomaml, h = algorithms.load("fomaml"), settings.hyperparameters
    block = TaskStream(settings.tasks, (0, 4), h.meta_batch_size).block(0)
    support, query = fomaml.sample(block, h)
    theta = fomaml.begin(FLUX, (0, 4), h).clone()
    rule = OUTER[optimizer](theta)
    for i, share in enumerate(SHARES[schedule]):
        rule.param_groups[0]["lr"] = 0.01 * share
        theta.grad = fomaml.meta_gradient(FLUX, theta, (support.at(i), query.at(i)), h)
        rule.step()
    found = run(settings, (0, 4), dtype=torch.float64)
    torch.testing.assert_close(found.theta, theta, rtol=1e-10, atol=1e-12)


# The ReLU network under FOMAML with a meta step of 0.15: some seeds diverge within 30
# meta-iterations, others do not.
RISKY = {"network": RELU, "hyperparameters": {"meta_step_size": 0.15}}
SEEDS = tuple(range(8))


def test_a_diverged_run_is_recorded_and_its_neighbours_are_not_disturbed(each_engine):
    settings = small.train_settings("fomaml", 30, **RISKY)
    stack = run(settings, SEEDS)
    diverged = stack.diverged_at > 0
    assert 0 < diverged.sum() < len(SEEDS)
    assert stack.theta[diverged].isnan().all()
    assert stack.theta[~diverged].isfinite().all()
    survivors = tuple(seed for seed in SEEDS if not diverged[seed])
    without = run(settings, survivors)
    assert torch.equal(without.theta, stack.theta[~diverged])
    assert torch.equal(without.validation_loss, stack.validation_loss[:, ~diverged])
    assert not without.diverged_at.any()


def test_the_first_of_several_meta_iterations_that_is_not_finite_is_found_for_each_run():
    theta = torch.tensor([[0, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 1]]).double()
    theta = torch.where(theta == 0, torch.nan, theta)[..., None]  # (meta-iteration, run, M)
    steps = ((row, row[None]) for row in theta)
    assert training._first_not_finite(steps, 9, 12, 4).tolist() == [10, 12, 11, 0]


ADAM = {
    "network": RISKY["network"],
    "hyperparameters": {"meta_optimizer": "adam", "meta_step_size": 3.0},
}


@pytest.mark.parametrize("risky", [RISKY, ADAM], ids=["descent", "adam"])
@pytest.mark.parametrize(
    "start_at", [0, 998], ids=["from the beginning", "across the end of a block of tasks"]
)
def test_diverged_at_is_the_first_meta_iteration_whose_theta_is_not_finite(risky, start_at):
    end = start_at + 30
    every, rarely = (
        small.train_settings("fomaml", end, **risky, validation={"interval": n}) for n in (1, 1022)
    )
    middle = begin(algorithms.load("fomaml"), FLUX, SEEDS, every.hyperparameters)._replace(
        meta_iteration=start_at, validation_loss=torch.zeros(1, len(SEEDS), dtype=torch.float64)
    )
    found = []
    last = run(every, SEEDS, state=middle, after_interval=found.append)
    assert [state.meta_iteration for state in found] == list(range(start_at + 1, end + 1))
    for r in SEEDS:
        bad = [state.meta_iteration for state in found if not state.theta[r].isfinite().all()]
        assert last.diverged_at[r] == (bad[0] if bad else 0)
        assert bad == list(range(bad[0], end + 1)) if bad else True, "and it never comes back"
    assert len(set(last.diverged_at.tolist())) > 1, "some sooner, some later"
    assert torch.equal(run(rarely, SEEDS, state=middle).diverged_at, last.diverged_at), (
        "whatever the interval"
    )


def test_the_validation_loss_of_a_diverged_run_is_not_a_number():
    state = run(
        small.train_settings(
            "reptile", 20, hyperparameters={"inner_step_size": 1e5, "meta_step_size": 1e5}
        ),
        (0, 1),
    )
    assert (state.diverged_at > 0).all()
    assert state.theta.isnan().all()
    assert not state.validation_loss[-1].isfinite().any()


def test_a_divergence_is_remembered_across_a_restart():
    settings = small.train_settings("fomaml", 30, **RISKY)
    whole = states(settings, SEEDS)
    again = run(settings, SEEDS, state=State(*whole[2]))
    assert torch.equal(again.diverged_at, whole[-1].diverged_at)
    assert same_bits(again.theta, whole[-1].theta)
    assert same_bits(again.validation_loss, whole[-1].validation_loss)


@pytest.mark.parametrize("most", [1e-4, 1e6])
def test_the_outer_gradient_is_cut_before_its_step(most):
    """With plain descent of size 1, a step is the gradient, cut."""
    cut, plain = (
        small.train_settings(
            "fomaml", 1, hyperparameters={"meta_step_size": 1.0, "meta_clip": clip}
        )
        for clip in (most, None)
    )
    initial = start("fomaml", (0, 1)).theta.double()
    after_cut, after = (run(given, (0, 1), dtype=torch.float64).theta for given in (cut, plain))
    step = (initial - after).clamp(-most, most)
    torch.testing.assert_close(initial - after_cut, step, rtol=1e-5, atol=1e-7)
