"""Each algorithm is the formula of its paper, checked one by one with literal peers."""

import math

import numpy as np
import peers
import pytest
import small
import torch
from torch.distributions import Normal

from metabench.check_algorithm.subject import Subject
from metabench.learning import algorithms
from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Question
from metabench.learning.algorithms import (
    anil,
    cavia,
    fomaml,
    fomaml_tail,
    joint,
    maml,
    maml_plus_plus,
    meta_curvature,
    meta_sgd,
    neural_process,
    reptile,
    ridge,
    t_net,
)
from metabench.learning.network import Network
from metabench.learning.randomness import BLOCK
from metabench.learning.settings import NetworkSettings
from metabench.learning.tasks import Points, SineDistribution, TaskStream

FLUX = SineDistribution()
NETWORK = Network((1, 8, 8, 1))
SEEDS = (4, 0, 9)
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64, whose sums may run in another order


def but(h, **changes):
    """Hyperparameters with others in place of some, even such as no study may have."""
    return h.model_copy(update=changes)


def stream(h, seeds=SEEDS):
    return TaskStream(FLUX, seeds, h.meta_batch_size)


def thetas(dtype=torch.float64, seeds=SEEDS, network=NETWORK):
    return torch.stack([network.initialize(seed) for seed in seeds]).to(dtype)


def sampled(module, h, seeds=SEEDS, block=0):
    """The data of a block."""
    return module.ALGORITHM.sample(stream(h, seeds).block(block), h)


def one_iteration(module, h, i=0, dtype=torch.float64, seeds=SEEDS):
    """The data of meta-iteration i."""
    batch = sampled(module, h, seeds, i // BLOCK)
    return tuple(points.at(i % BLOCK).to(dtype) for points in batch)


def predicted(module, theta, batches, h):
    """What an algorithm predicts on the grid, of copies of theta."""
    question = Question(batches, FLUX.grid)
    return module.ALGORITHM.adaptation.predict(NETWORK, theta, question, h)


def gradients(theta, x, y):
    """The gradients ``(run, task, P)`` at theta ``(run, task, P)`` by autograd, one network at a
    time.
    """
    tasks = range(y.shape[1])
    x = x.expand(*y.shape[:2], *x.shape[-2:])
    rows = [
        [peers.loss_and_gradient(NETWORK, theta[r, t], x[r, t], y[r, t])[1] for t in tasks]
        for r in range(len(y))
    ]
    return torch.stack([torch.stack(row) for row in rows])


def test_the_registry_names_every_file_of_the_package():
    files = {p.stem for p in (small.ROOT / "metabench" / "learning" / "algorithms").glob("*.py")}
    assert files - {"__init__"} == set(algorithms.NAMES)
    assert list(algorithms.NAMES) == sorted(algorithms.NAMES)


def test_an_unknown_algorithm_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError,
        match=r"unknown algorithm 'reptil'; choose from alpaca, anil, .*or give the path",
    ):
        algorithms.load("reptil")


@pytest.mark.parametrize("name", algorithms.NAMES)
def test_an_algorithm_states_its_mathematics_and_where_it_comes_from(name):
    documentation = algorithms.module(name).__doc__
    assert "<- " in documentation
    assert "Reference" in documentation


@pytest.mark.parametrize(
    # Tasks, gradient evaluations and point-gradients of a meta-iteration, counted in the Flux
    # script.
    ("name", "expected"),
    [
        ("fomaml", (3, 6, 180)),
        ("reptile", (1, 5, 50)),
        ("joint", (1, 1, 50)),
        ("random", (0, 0, 0)),
    ],
)
def test_the_costs_are_the_flux_scripts(name, expected):
    assert algorithms.load(name).cost(small.published(name).hyperparameters, FLUX) == expected


# FOMAML.

FOMAML = fomaml.Hyperparameters(
    meta_step_size=0.01, meta_batch_size=3, shots=10, inner_steps=1, inner_step_size=0.02
)


def test_fomaml_draws_fresh_support_points_and_queries_the_grid():
    support, query = sampled(fomaml, FOMAML)
    assert support.x.shape == support.y.shape == (BLOCK, 3, 3, 10, 1)
    assert support.x.unique().numel() == support.x.numel()
    assert query.y.shape == (BLOCK, 3, 3, 50, 1)
    assert (query.x == FLUX.grid).all()


def test_fomaml_with_inner_step_0_sums_the_query_gradients_at_the_initialization():
    support, query = one_iteration(fomaml, FOMAML)
    found = fomaml.meta_gradient(
        NETWORK, thetas(), (support, query), but(FOMAML, inner_step_size=0.0)
    )
    at_theta = gradients(thetas()[:, None].expand(-1, 3, -1), *query)
    torch.testing.assert_close(found, at_theta[:, 0] + at_theta[:, 1] + at_theta[:, 2], **EXACT)


def test_fomaml_with_inner_step_0_is_joint_training_on_the_grid_up_to_the_number_of_tasks():
    batch = one_iteration(fomaml, FOMAML)
    summed = fomaml.meta_gradient(NETWORK, thetas(), batch, but(FOMAML, inner_step_size=0.0))
    query = Points(*(p.flatten(1, 2) for p in (batch[1].x.expand_as(batch[1].y), batch[1].y)))
    mean = joint.meta_gradient(NETWORK, thetas(), (query,), FOMAML)
    torch.testing.assert_close(summed, 3 * mean, **EXACT)


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_fomaml_takes_the_query_gradient_at_the_adapted_parameters(inner_steps):
    h = but(FOMAML, inner_steps=inner_steps)
    support, query = one_iteration(fomaml, h)
    phi = thetas()[:, None].expand(-1, 3, -1)
    for _ in range(inner_steps):
        phi = phi - 0.02 * gradients(phi, *support)
    found = fomaml.meta_gradient(NETWORK, thetas(), (support, query), h)
    torch.testing.assert_close(found, gradients(phi, *query).sum(1), **EXACT)
    at_theta = gradients(thetas()[:, None].expand(-1, 3, -1), *query).sum(1)
    assert ((found - at_theta).norm(dim=-1) > 0.05 * at_theta.norm(dim=-1)).all(), (
        "which is another gradient"
    )


def test_fomaml_sums_over_tasks():
    batch = one_iteration(fomaml, FOMAML)
    alone = [
        fomaml.meta_gradient(
            NETWORK,
            thetas(),
            (
                Points(batch[0].x[:, t : t + 1], batch[0].y[:, t : t + 1]),
                Points(batch[1].x, batch[1].y[:, t : t + 1]),
            ),
            but(FOMAML, meta_batch_size=1),
        )
        for t in range(3)
    ]
    torch.testing.assert_close(
        fomaml.meta_gradient(NETWORK, thetas(), batch, FOMAML), sum(alone), **EXACT
    )


# Reptile.

REPTILE = reptile.Hyperparameters(
    meta_step_size=0.1, meta_batch_size=1, shots=10, inner_steps=5, inner_step_size=0.02
)


def test_reptiles_mini_batches_are_disjoint_and_together_the_grid():
    (batches,) = sampled(reptile, REPTILE)
    assert batches.x.shape == batches.y.shape == (BLOCK, 5, 3, 1, 10, 1)
    every = batches.x.movedim(1, 3).flatten(3).sort(-1).values  # (iteration, run, task, point)
    assert (every == FLUX.grid[:, 0]).all()


def test_reptile_shuffles_the_grid_of_each_task_anew():
    (batches,) = sampled(reptile, REPTILE)
    orders = batches.x.movedim(1, 3).flatten(3).reshape(-1, 50)
    assert len(orders.unique(dim=0)) == len(orders)


def test_reptile_with_one_inner_step_points_along_the_gradient_of_the_mini_batch():
    h = but(REPTILE, inner_steps=1)
    (batches,) = one_iteration(reptile, h)
    found = reptile.meta_gradient(NETWORK, thetas(), (batches,), h)
    expected = gradients(thetas()[:, None], *batches.at(0))[:, 0]
    torch.testing.assert_close(found, 0.02 * expected, **EXACT)
    flat = Points(*(p.flatten(1, 2) for p in batches.at(0)))
    on_the_same_points = joint.meta_gradient(NETWORK, thetas(), (flat,), h)
    torch.testing.assert_close(found, 0.02 * on_the_same_points, **EXACT)


def test_reptiles_direction_is_the_sum_of_its_inner_steps():
    (batches,) = one_iteration(reptile, REPTILE)
    phi, total = thetas()[:, None], torch.zeros_like(thetas())
    for k in range(5):
        gradient = gradients(phi, *batches.at(k))
        phi, total = phi - 0.02 * gradient, total + gradient[:, 0]
    torch.testing.assert_close(
        reptile.meta_gradient(NETWORK, thetas(), (batches,), REPTILE), 0.02 * total, **EXACT
    )


def test_reptile_moves_a_tenth_of_the_way_towards_the_adapted_parameters():
    (batches,) = one_iteration(reptile, REPTILE)
    theta = thetas()
    own = [[(batches.x[k, r, 0], batches.y[k, r, 0]) for k in range(5)] for r in range(3)]
    phi = torch.stack([peers.adapted(NETWORK, theta[r], own[r], 0.02) for r in range(3)])
    moved = theta - 0.1 * reptile.meta_gradient(NETWORK, theta, (batches,), REPTILE)
    # 0.9 of the way is left; in the wrong direction it would be 1.1.
    torch.testing.assert_close(
        (moved - phi).norm(dim=-1), 0.9 * (theta - phi).norm(dim=-1), **EXACT
    )


def test_reptile_averages_over_the_tasks_of_a_meta_batch():
    h = but(REPTILE, meta_batch_size=2)
    (batches,) = one_iteration(reptile, h)
    alone = [
        reptile.meta_gradient(
            NETWORK,
            thetas(),
            (Points(batches.x[:, :, t : t + 1], batches.y[:, :, t : t + 1]),),
            REPTILE,
        )
        for t in range(2)
    ]
    found = reptile.meta_gradient(NETWORK, thetas(), (batches,), h)
    torch.testing.assert_close(found, (alone[0] + alone[1]) / 2, **EXACT)


def test_reptile_refuses_mini_batches_that_the_grid_cannot_fill():
    with pytest.raises(
        ValueError, match=r"inner_steps \* shots must not exceed its 50 points, got 6 \* 10"
    ):
        reptile.cost(but(REPTILE, inner_steps=6), FLUX)


# Joint training.

JOINT = joint.Hyperparameters(meta_step_size=0.01, meta_batch_size=2, shots=50)


def test_joint_training_averages_the_gradients_of_its_tasks_at_the_initialization():
    (points,) = one_iteration(joint, JOINT)
    of_each = (p.unflatten(1, (2, 50)) for p in points)
    expected = gradients(thetas()[:, None].expand(-1, 2, -1), *of_each)
    found = joint.meta_gradient(NETWORK, thetas(), (points,), JOINT)
    torch.testing.assert_close(found, (expected[:, 0] + expected[:, 1]) / 2, **EXACT)


def test_joint_training_draws_fresh_points():
    (points,) = sampled(joint, JOINT)
    assert points.x.shape == (BLOCK, 3, 2 * 50, 1)
    assert points.x.unique().numel() == points.x.numel()


def test_random_initialization_learns_nothing():
    module, h = algorithms.load("random"), small.published("random").hyperparameters
    assert not module.meta_gradient(NETWORK, thetas(), (), h).any()


# Those that differentiate through the adaptation.

THROUGH = (
    "alpaca",
    "anil",
    "cavia",
    "conditional_neural_process",
    "lstm",
    "maml",
    "maml_plus_plus",
    "meta_curvature",
    "meta_sgd",
    "mmaml",
    "neural_process",
    "ridge",
    "t_net",
    "transformer_neural_process",
)


def moved(subject, seed=0, size=0.05):
    """What a subject begins with, moved a little off any special place; float64."""
    theta = subject.begin(dtype=torch.float64)
    return theta + size * torch.randn(
        theta.shape, dtype=theta.dtype, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("name", THROUGH)
def test_the_meta_gradient_is_the_slope_of_the_query_loss_of_what_is_predicted(
    name, activation, each_engine
):
    subject = Subject(name, NetworkSettings(hidden=(8, 8), activation=activation))
    theta, batch = moved(subject), subject.batch(dtype=torch.float64)
    support, query = batch
    steps = getattr(subject.h, "inner_steps", 1)

    def losses(theta):
        found = subject.predict(theta, support, query.x, updates=steps)
        if subject.predicts_variance:
            variance = subject.distribution(theta, support, query.x).variance
            surprise = -Normal(found[-1], variance.sqrt()).log_prob(query.y)
            return surprise.mean((-2, -1)).sum(-1)
        along = (found - query.y).square().mean((-2, -1)).sum(-1)  # (update, run)
        return along[1:].mean(0) if name == "maml_plus_plus" else along[-1]

    direction = moved(subject, 1, 1.0)
    step = 1e-7
    slope = (losses(theta + step * direction) - losses(theta - step * direction)) / (2 * step)
    found = (subject.gradient(theta, batch) * direction).sum(-1)
    torch.testing.assert_close(found, slope, rtol=1e-5, atol=1e-6 * slope.abs().max().item())


MAML = maml.Hyperparameters(**but(FOMAML, inner_step_size=0.05).model_dump())


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_maml_on_a_linear_model_is_the_formula(inner_steps):
    """L = |X w - y|^2 / n has gradient 2 X'(X w - y) / n and Hessian 2 X'X / n, the same
    everywhere.
    """
    network, h = Network((1, 1)), but(MAML, inner_steps=inner_steps)
    theta = thetas(network=network)
    support, query = one_iteration(maml, h)
    found = maml.meta_gradient(network, theta, (support, query), h)
    for run in range(3):
        total = torch.zeros(2, dtype=torch.float64)
        for task in range(3):
            design, y = (
                torch.cat([support.x[run, task], torch.ones(10, 1)], -1),
                support.y[run, task, :, 0],
            )
            grid, labels = torch.cat([FLUX.grid, torch.ones(50, 1)], -1), query.y[run, task, :, 0]
            through = torch.eye(2, dtype=torch.float64) - 0.05 * 2 / 10 * design.T @ design
            w = theta[run]
            for _ in range(inner_steps):
                w = w - 0.05 * 2 / 10 * design.T @ (design @ w - y)
            total += torch.linalg.matrix_power(through, inner_steps) @ (
                2 / 50 * grid.T @ (grid @ w - labels)
            )
        torch.testing.assert_close(found[run], total, **EXACT)


def test_maml_differs_from_fomaml_by_the_hessian_on_the_support_set():
    batch = one_iteration(maml, MAML)
    support, query = batch
    copies = thetas()[:, None].expand(-1, 3, -1)
    phi = copies - 0.05 * gradients(copies, *support)
    v, step = gradients(phi, *query), 1e-6
    ahead, behind = (gradients(copies + sign * step * v, *support) for sign in (1, -1))
    hessian_times_v = (ahead - behind) / (2 * step)
    difference = maml.meta_gradient(NETWORK, thetas(), batch, MAML) - fomaml.meta_gradient(
        NETWORK, thetas(), batch, MAML
    )
    torch.testing.assert_close(difference, -0.05 * hessian_times_v.sum(1), rtol=1e-5, atol=1e-7)
    assert (difference.norm(dim=-1) > 0.01 * v.sum(1).norm(dim=-1)).all(), "which is not nothing"


@pytest.mark.parametrize("module", [maml, anil])
def test_without_an_inner_step_a_query_gradient_is_left(module):
    h = but(MAML, inner_step_size=0.0)
    batch = one_iteration(module, h)
    expected = fomaml.meta_gradient(NETWORK, thetas(), batch, h)
    torch.testing.assert_close(module.meta_gradient(NETWORK, thetas(), batch, h), expected, **EXACT)


def test_maml_tends_to_fomaml_as_the_inner_step_shrinks():
    batch = one_iteration(maml, MAML)
    gaps = [
        (
            maml.meta_gradient(NETWORK, thetas(), batch, h)
            - fomaml.meta_gradient(NETWORK, thetas(), batch, h)
        ).norm()
        for h in (but(MAML, inner_step_size=size) for size in (1e-3, 1e-4))
    ]
    assert gaps[1] < 0.11 * gaps[0]


def test_anils_adaptation_moves_the_head_and_nothing_else():
    support, _ = one_iteration(anil, MAML)
    found = predicted(anil, one_copy_per_task(thetas(), 3), support.repeated(3), MAML)
    hidden = NETWORK.features(thetas(), FLUX.grid)  # (run, point, width)
    spanned = torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=-1)
    for run in range(3):
        after = found[-1, run, :, :, 0].T  # (point, task)
        head = torch.linalg.lstsq(spanned[run], after).solution
        torch.testing.assert_close(spanned[run] @ head, after, rtol=1e-7, atol=1e-7)
    assert ((found[-1] - found[0]).abs().mean((-2, -1)) > 0.01).all(), "and it does adapt"


META_SGD = meta_sgd.Hyperparameters(**MAML.model_dump(exclude={"inner_clip"}))


def test_meta_sgd_with_a_frozen_alpha_is_maml():
    h = but(META_SGD, inner_steps=2)
    batch = one_iteration(meta_sgd, h)
    learned = meta_sgd.begin(NETWORK, SEEDS, h)
    assert (learned[:, NETWORK.parameters :] == 0.05).all()
    along_theta, _ = meta_sgd.meta_gradient(NETWORK, learned, batch, h).chunk(2, dim=-1)
    torch.testing.assert_close(
        along_theta,
        maml.meta_gradient(NETWORK, thetas(), batch, but(MAML, inner_steps=2)),
        **EXACT,
    )
    support = batch[0].at(0).repeated(4)  # one run's tasks
    copies = one_copy_per_task(learned[:1], 3)
    own = predicted(meta_sgd, copies, support, h)
    plain = predicted(maml, copies[..., : NETWORK.parameters], support, h)
    torch.testing.assert_close(own, plain, **EXACT)


def test_meta_curvature_begins_as_maml_and_its_maps_mix_the_gradient_of_a_layer_alone():
    h = but(MAML, inner_steps=2)
    batch = one_iteration(meta_curvature, h)
    learned = meta_curvature.begin(NETWORK, SEEDS, h)
    found = meta_curvature.meta_gradient(NETWORK, learned, batch, h)
    of_maml = maml.meta_gradient(NETWORK, thetas(), batch, h)
    torch.testing.assert_close(found[:, : NETWORK.parameters], of_maml, **EXACT)

    # Both maps of the second layer double its gradient: the layer moves four times as far.
    first, size = NETWORK.parameters + 2**2 + 8**2, 9**2 + 8**2
    learned[:, first : first + size] *= 2
    copies = one_copy_per_task(learned[:1], 3)
    support = batch[0].at(0)
    [_, after] = predicted(meta_curvature, copies, support.repeated(1), h)
    start = copies[..., : NETWORK.parameters]
    steps = 0.05 * gradients(start, support.x[None], support.y[None])
    steps[..., NETWORK.layer_of_parameter == 1] *= 4
    torch.testing.assert_close(after, NETWORK.predict(start - steps, FLUX.grid), **EXACT)


def t_net_with(transformation):
    """A T-net whose second layer has a given transformation, and those of MAML elsewhere."""
    learned = t_net.begin(NETWORK, SEEDS, MAML)
    first = NETWORK.parameters + 8**2
    learned[:, first : first + 8**2] = transformation.flatten()
    return learned


def test_t_net_begins_as_maml_and_learns_its_transformations():
    h = but(MAML, inner_steps=2)
    batch = one_iteration(t_net, h)
    found = t_net.meta_gradient(NETWORK, t_net.begin(NETWORK, SEEDS, h), batch, h)
    of_maml = maml.meta_gradient(NETWORK, thetas(), batch, h)
    torch.testing.assert_close(found[:, : NETWORK.parameters], of_maml, **EXACT)
    assert found[:, NETWORK.parameters :].abs().min() > 0


@pytest.mark.parametrize(("rotates", "factor"), [(True, 1), (False, 4)])
def test_t_net_steps_by_the_square_of_its_transformation_which_a_rotation_does_not_change(
    rotates, factor
):
    unit = torch.eye(8, dtype=torch.float64)
    transformation = unit.roll(3, dims=0) if rotates else 2 * unit
    learned = t_net_with(transformation)
    phi = thetas()
    weight, bias = NETWORK.layers(phi)[1]  # views
    weight.copy_(weight @ transformation)
    bias.copy_(bias @ transformation)
    support = one_iteration(t_net, MAML)[0]
    found = predicted(t_net, one_copy_per_task(learned, 3), support.repeated(1), MAML)
    start = one_copy_per_task(phi, 3)
    steps = 0.05 * gradients(start, *support)
    steps[..., NETWORK.layer_of_parameter == 1] *= factor
    torch.testing.assert_close(found[0], NETWORK.predict(start, FLUX.grid), **EXACT)
    torch.testing.assert_close(found[1], NETWORK.predict(start - steps, FLUX.grid), **EXACT)


def test_t_net_adapts_its_weights_and_not_its_transformations():
    """Written with autograd, one network at a time: only W takes steps, and T is multiplied by."""
    h = but(MAML, inner_steps=2)
    transformation = torch.linspace(-1, 1, 64, dtype=torch.float64).view(8, 8) + torch.eye(8)
    learned = t_net_with(transformation)
    support = one_iteration(t_net, h)[0]
    found = predicted(t_net, one_copy_per_task(learned, 3), support.repeated(2), h)

    def predict(phi, x):
        (w1, b1), (w2, b2), (w3, b3) = NETWORK.layers(phi)
        hidden = torch.tanh((torch.tanh(x @ w1 + b1) @ w2 + b2) @ transformation)
        return hidden @ w3 + b3

    for run in range(3):
        for task in range(3):
            phi, points = thetas()[run].requires_grad_(), support.at(run).at(task)
            for _ in range(2):
                loss = (predict(phi, points.x) - points.y).square().mean()
                phi = phi - 0.05 * torch.autograd.grad(loss, phi)[0]
            expected = predict(phi, FLUX.grid).detach()
            torch.testing.assert_close(found[2, run, task], expected, **EXACT)


PLUS_PLUS = maml_plus_plus.Hyperparameters(**MAML.model_dump(exclude={"inner_clip"}))


def plus_plus_gradient(**changes):
    """The meta-gradient of MAML++ for theta and for its step sizes, of three inner steps."""
    h = but(PLUS_PLUS, **{"inner_steps": 3} | changes)
    learned, batch = maml_plus_plus.begin(NETWORK, SEEDS, h), one_iteration(maml_plus_plus, h)
    found = maml_plus_plus.meta_gradient(NETWORK, learned, batch, h)
    return found.tensor_split([NETWORK.parameters], dim=-1)


def test_maml_plus_plus_with_one_step_is_meta_sgd_with_one_size_a_layer():
    along = plus_plus_gradient(inner_steps=1)
    along_theta, along_alpha = meta_sgd.meta_gradient(
        NETWORK, meta_sgd.begin(NETWORK, SEEDS, META_SGD), one_iteration(meta_sgd, MAML), META_SGD
    ).chunk(2, -1)
    layers = torch.stack(
        [along_alpha[:, NETWORK.layer_of_parameter == layer].sum(-1) for layer in range(3)], dim=-1
    )
    torch.testing.assert_close(along, (along_theta, layers), **EXACT)


def test_maml_plus_plus_adapts_on_with_the_sizes_of_its_last_step():
    h = but(PLUS_PLUS, inner_steps=2)
    learned = maml_plus_plus.begin(NETWORK, (0,), h)
    learned[0, NETWORK.parameters :] = torch.tensor([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    sizes = maml_plus_plus._sizes(NETWORK, learned, h, 4)
    assert np.allclose(sizes.values[:, 0], [[0.01, 0.02, 0.03], *[[0.04, 0.05, 0.06]] * 3])


def test_without_its_earlier_losses_maml_plus_plus_has_the_gradient_of_maml(each_engine):
    h, batch = but(MAML, inner_steps=3), one_iteration(maml, MAML)
    along_theta, _ = plus_plus_gradient(earlier_losses=0.0)
    torch.testing.assert_close(
        along_theta, maml.meta_gradient(NETWORK, thetas(), batch, h), **EXACT
    )


def test_without_second_derivatives_too_it_is_that_of_fomaml(each_engine):
    h, batch = but(MAML, inner_steps=3), one_iteration(maml, MAML)
    along_theta, _ = plus_plus_gradient(earlier_losses=0.0, first_order=1.0)
    expected = fomaml.meta_gradient(NETWORK, thetas(), batch, h)
    torch.testing.assert_close(along_theta, expected, **EXACT)


def test_meta_sgd_without_second_derivatives_moves_theta_as_fomaml_does(each_engine):
    h = meta_sgd.Hyperparameters(**but(FOMAML, inner_steps=3).model_dump(), second_order=False)
    batch = one_iteration(meta_sgd, h)
    found = meta_sgd.meta_gradient(NETWORK, meta_sgd.begin(NETWORK, SEEDS, h), batch, h)
    expected = fomaml.meta_gradient(NETWORK, thetas(), batch, but(FOMAML, inner_steps=3))
    torch.testing.assert_close(found.chunk(2, -1)[0], expected, **EXACT)
    whole, first = (meta_sgd.ALGORITHM.cost(but(h, second_order=o), FLUX) for o in (True, False))
    assert whole.gradient_evaluations - first.gradient_evaluations == 3 * 3 * 2


def test_the_losses_of_maml_plus_plus_count_by_their_weights(each_engine):
    some, all_alike, last = (plus_plus_gradient(earlier_losses=w) for w in (0.4, 1.0, 0.0))
    expected = tuple(0.4 * a + 0.6 * b for a, b in zip(all_alike, last, strict=True))
    torch.testing.assert_close(some, expected, **EXACT)


def test_annealing_takes_the_earlier_losses_to_zero_and_begins_without_second_derivatives():
    h = but(PLUS_PLUS, inner_steps=4, annealing=0.5, first_order=0.25)
    moments = [h.at(done) for done in (0.0, 0.2, 0.25, 0.5, 0.9)]
    assert [now.weights.earlier for now in moments] == pytest.approx([0.25, 0.15, 0.125, 0, 0])
    assert [now.weights.last for now in moments] == pytest.approx([0.25, 0.55, 0.625, 1, 1])
    assert [bool(now.first_order) for now in moments] == [True, True, False, False, False]
    assert PLUS_PLUS.at(0.7) is PLUS_PLUS


@pytest.mark.parametrize("changes", [{"inner_steps": 1}, {"earlier_losses": 0.0}])
def test_annealing_without_losses_to_anneal_is_refused(changes):
    h = but(PLUS_PLUS, **{"inner_steps": 2, "annealing": 0.1} | changes)
    with pytest.raises(ValueError, match=r"annealing needs losses before the last.*got"):
        maml_plus_plus.cost(h, FLUX)


def test_maml_plus_plus_without_second_derivatives_counts_none():
    costs = [maml_plus_plus.cost(but(PLUS_PLUS, first_order=n), FLUX) for n in (0.0, 0.5, 1.0)]
    assert costs[0] == costs[1]
    steps = PLUS_PLUS.meta_batch_size * PLUS_PLUS.inner_steps
    assert costs[0].gradient_evaluations - costs[2].gradient_evaluations == 2 * steps
    assert costs[0].point_gradients - costs[2].point_gradients == 2 * steps * PLUS_PLUS.shots


CAVIA = cavia.Hyperparameters(
    meta_step_size=0.01, meta_batch_size=3, context=2, inner_steps=2, inner_step_size=0.3
)


def test_cavias_context_is_an_input_beside_x():
    subject_theta = cavia.begin(NETWORK, (0,), CAVIA)
    wide, support = Network((3, 8, 8, 1)), one_iteration(cavia, CAVIA, seeds=(0,))[0].at(0)
    first, rest = subject_theta[0, :8], subject_theta[0, 8 : NETWORK.parameters]
    # W_1 has one row for each input.
    weights = torch.cat([first, subject_theta[0, NETWORK.parameters :], rest])
    context = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)

    def predict(context, x):
        inputs = torch.cat(
            [x.expand(3, -1, 1), context[:, None].expand(-1, x.shape[-2], -1)], dim=-1
        )
        return wide.predict(weights.expand(3, -1), inputs)

    expected = [predict(context, FLUX.grid)]
    for _ in range(2):
        loss = (predict(context, support.x) - support.y).square().mean((-2, -1)).sum()
        context = context - 0.3 * torch.autograd.grad(loss, context)[0]
        expected.append(predict(context, FLUX.grid))
    copies = one_copy_per_task(subject_theta, 3)
    found = predicted(cavia, copies, support.repeated(2), CAVIA)[:, 0]
    torch.testing.assert_close(found, torch.stack(expected).detach(), **EXACT)


def test_cavia_whose_context_leads_nowhere_does_not_adapt():
    learned = cavia.begin(NETWORK, SEEDS, CAVIA)
    learned[:, NETWORK.parameters :] = 0
    batch = one_iteration(cavia, CAVIA)
    found = predicted(cavia, one_copy_per_task(learned, 3), batch[0].repeated(2), CAVIA)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    along_theta = cavia.meta_gradient(NETWORK, learned, batch, CAVIA)[:, : NETWORK.parameters]
    at_theta = fomaml.meta_gradient(NETWORK, thetas(), batch, but(MAML, inner_step_size=0.0))
    torch.testing.assert_close(along_theta, at_theta, **EXACT)


# Those that use the support set at once.

RIDGE = ridge.Hyperparameters(meta_step_size=0.001, meta_batch_size=3, shots=10)


def ridge_predictions(log_scale, updates=1):
    learned = ridge.begin(NETWORK, (0,), RIDGE)
    learned[0, -1] = log_scale
    support, _ = one_iteration(ridge, RIDGE, seeds=(0,))
    found = predicted(ridge, one_copy_per_task(learned, 3), support.repeated(updates), RIDGE)
    return learned[0, :-1], support, found


def test_the_ridge_head_is_the_posterior_mean_of_a_linear_model():
    theta, support, found = ridge_predictions(-1.0)
    features = [NETWORK.features(theta, x) for x in (support.x[0, 1], FLUX.grid)]
    prior = [NETWORK.predict(theta, x) for x in (support.x[0, 1], FLUX.grid)]
    precision = features[0].T @ features[0] + math.exp(-1.0) * torch.eye(8)
    update = torch.linalg.solve(precision, features[0].T @ (support.y[0, 1] - prior[0]))
    torch.testing.assert_close(
        found[1, 0, 1], prior[1] + features[1] @ update, rtol=1e-8, atol=1e-8
    )


def test_a_ridge_head_with_a_strong_prior_does_not_adapt_and_every_update_is_the_first():
    theta, _, found = ridge_predictions(30.0, updates=3)
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-6)
    assert torch.equal(found[1], found[2]) and torch.equal(found[1], found[3])
    torch.testing.assert_close(found[0, 0, 0], NETWORK.predict(theta, FLUX.grid), **EXACT)


def test_a_neural_process_does_not_care_about_the_order_of_points():
    h = neural_process.Hyperparameters(meta_step_size=0.001, shots=10, context=4)
    theta = one_copy_per_task(neural_process.begin(NETWORK, SEEDS, h), 3)
    support, _ = one_iteration(neural_process, h)
    turned = Points(support.x.flip(-2), support.y.flip(-2))
    found = [predicted(neural_process, theta, p.repeated(1), h) for p in (support, turned)]
    torch.testing.assert_close(found[0], found[1], **EXACT)
    assert (found[0][1] - found[0][0]).abs().max() > 0.01, "and it sees them"


# Variants of the first two.


def test_the_tail_of_fomaml_is_held_out():
    h = but(REPTILE, inner_steps=4, meta_batch_size=2)
    (batches,) = one_iteration(fomaml_tail, h)
    assert batches.x.shape == (5, 3, 2, 10, 1)
    phi = thetas()[:, None].expand(-1, 2, -1)
    for k in range(4):
        phi = phi - 0.02 * gradients(phi, *batches.at(k))
    found = fomaml_tail.meta_gradient(NETWORK, thetas(), (batches,), h)
    torch.testing.assert_close(found, gradients(phi, *batches.at(4)).mean(1), **EXACT)
    with pytest.raises(
        ValueError,
        match=r"\(inner_steps \+ 1\) \* shots must not exceed its 50 points, got 6 \* 10",
    ):
        fomaml_tail.cost(but(h, inner_steps=5), FLUX)


def test_reptile_may_adapt_by_adam_without_its_first_moment():
    h = but(REPTILE, inner_optimizer="adam")
    (batches,) = one_iteration(reptile, h)
    for run in range(3):
        phi = thetas()[run].clone().requires_grad_()
        adam = torch.optim.Adam([phi], lr=0.02, betas=(0.0, 0.999))
        for k in range(5):
            phi.grad = peers.loss_and_gradient(
                NETWORK, phi.detach(), batches.x[k, run, 0], batches.y[k, run, 0]
            )[1]
            adam.step()
        found = thetas() - reptile.meta_gradient(NETWORK, thetas(), (batches,), h)
        torch.testing.assert_close(found[run], phi.detach(), rtol=1e-7, atol=1e-9)


# Files of one's own.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def (", "cannot load .*SyntaxError"),
        ("1 / 0", "cannot load .*ZeroDivisionError"),
        ("STEPS = ()", r"must define ALGORITHM = Algorithm\(...\), got NoneType"),
        ("ALGORITHM = 'fomaml'", r"must define ALGORITHM = Algorithm\(...\), got str"),
    ],
)
def test_a_file_that_is_no_algorithm_is_refused_with_the_reason(tmp_path, text, message):
    (path := tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        algorithms.load(str(path))


def test_a_file_must_not_take_the_name_of_a_known_algorithm(tmp_path):
    (path := tmp_path / "reptile.py").write_text("")
    with pytest.raises(ValueError, match="needs a different name"):
        algorithms.load(str(path))


def test_a_file_that_is_not_there_is_reported_as_missing(tmp_path):
    with pytest.raises(ValueError, match=r"cannot load .*No such file"):
        algorithms.load(str(tmp_path / "mine.py"))


def test_what_a_file_prints_when_it_is_loaded_does_not_land_in_the_output(tmp_path, capsys):
    (path := tmp_path / "chatty.py").write_text("print('hello')\nfrom metabench import *")
    with pytest.raises(ValueError, match="must define ALGORITHM"):
        algorithms.load(str(path))
    out, err = capsys.readouterr()
    assert out == "" and "hello" in err
