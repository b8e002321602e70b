import random
from dataclasses import fields, replace
from math import prod

import numpy as np
import peers
import pytest
import small
import torch

from metabench import algorithms
from metabench.adaptation import Points
from metabench.algorithms import fomaml, joint, reptile
from metabench.algorithms.protocol import Hyperparameters
from metabench.network import Network
from metabench.randomness import BLOCK
from metabench.tasks import SineDistribution, TaskStream

FLUX = SineDistribution()
NETWORK = Network((1, 8, 8, 1))
SEEDS = (4, 0, 9)
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64, whose sums may run in another order


def stream(h, seeds=SEEDS):
    return TaskStream(FLUX, seeds, h.meta_batch_size or 0)


def thetas(dtype=torch.float64, seeds=SEEDS, network=NETWORK):
    return torch.stack([network.initialize(seed) for seed in seeds]).to(dtype)


def one_iteration(module, h, i=0, dtype=torch.float64, seeds=SEEDS):
    """The data of meta-iteration i."""
    batch = module.sample(stream(h, seeds), i // BLOCK, h)
    return tuple(points.at(i % BLOCK).to(dtype) for points in batch)


def gradients(theta, x, y):
    """The gradients ``(run, task, P)`` at theta ``(run, task, P)`` by autograd, one network at a time."""
    tasks = range(y.shape[1])
    x = x.expand(*y.shape[:2], *x.shape[-2:])
    rows = [[peers.loss_and_gradient(NETWORK, theta[r, t], x[r, t], y[r, t])[1] for t in tasks] for r in range(len(y))]
    return torch.stack([torch.stack(row) for row in rows])


# What holds for every algorithm.


@pytest.fixture(params=algorithms.NAMES)
def algorithm(request):
    return algorithms.load(request.param), small.published(request.param).hyperparameters


def test_the_registry_names_every_file_of_the_package():
    files = {p.stem for p in (small.ROOT / "metabench" / "algorithms").glob("*.py")}
    assert files - {"__init__", "protocol"} == set(algorithms.NAMES)
    assert list(algorithms.NAMES) == sorted(algorithms.NAMES)


def test_an_unknown_algorithm_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown algorithm 'reptil'; choose from fomaml, joint, random, reptile"):
        algorithms.load("reptil")


def test_an_algorithm_states_its_mathematics_and_where_it_comes_from(algorithm):
    documentation = algorithm[0].__doc__
    assert "theta <- theta" in documentation
    assert "Reference" in documentation


def test_an_algorithm_reads_known_hyperparameters_and_its_published_cell_gives_all_of_them(algorithm):
    module, h = algorithm
    assert set(module.HYPERPARAMETERS) == {f.name for f in fields(h) if getattr(h, f.name)}


def test_the_data_of_a_block_have_the_iteration_first(algorithm):
    module, h = algorithm
    for points in module.sample(stream(h), 0, h):
        assert len(points.x) == len(points.y) == BLOCK
        assert points.x.dtype == points.y.dtype == torch.float64


def test_the_labels_are_those_of_the_streams_waves(algorithm):
    module, h = algorithm
    for points in module.sample(stream(h), 0, h):
        waves = stream(h).waves(0)  # (iteration, run, task)
        mini_batches = points.y.dim() == 6
        for i in (0, BLOCK - 1):
            x, y = (p[i, 0] if mini_batches else p[i] for p in points)
            amplitude, phase = (w[i][..., None, None] for w in (waves.amplitude, waves.phase))
            torch.testing.assert_close(y, (amplitude * torch.sin(x + phase)).expand(y.shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_meta_gradient_is_finite_and_has_the_shape_and_type_of_theta(algorithm, dtype):
    module, h = algorithm
    found = module.meta_gradient(NETWORK, thetas(dtype), one_iteration(module, h, dtype=dtype), h)
    assert found.shape == (len(SEEDS), NETWORK.parameters)
    assert found.dtype == dtype
    assert found.isfinite().all()


def test_the_same_arguments_give_the_same_bits_and_stay_as_they_are(algorithm):
    module, h = algorithm
    theta, batch = thetas(torch.float32), one_iteration(module, h, 7, torch.float32)
    first = module.meta_gradient(NETWORK, theta, batch, h)
    assert torch.equal(theta, thetas(torch.float32))
    again = one_iteration(module, h, 7, torch.float32)
    assert all(torch.equal(a, b) for old, new in zip(batch, again, strict=True) for a, b in zip(old, new, strict=True))
    assert torch.equal(module.meta_gradient(NETWORK, theta, batch, h), first)


def test_no_global_random_state_is_touched(algorithm):
    module, h = algorithm
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    module.meta_gradient(NETWORK, thetas(), one_iteration(module, h), h)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_the_meta_gradient_of_a_run_has_the_same_bits_without_its_neighbours(algorithm, each_engine):
    module, h = algorithm
    network = Network((1, 64, 64, 1))
    batch = one_iteration(module, h, 3, torch.float32)
    together = module.meta_gradient(network, thetas(torch.float32, network=network), batch, h)
    for run, seed in enumerate(SEEDS):
        batch = one_iteration(module, h, 3, torch.float32, (seed,))
        alone = module.meta_gradient(network, thetas(torch.float32, (seed,), network), batch, h)
        assert torch.equal(alone[0], together[run])


class Counting(Network):
    """A network that counts its gradient evaluations and the points they are taken at, one after another."""

    def _kernel(self, *tensors):
        return None

    def loss_and_gradient(self, theta, x, y):
        networks = prod(theta.shape[:-1])
        self.__dict__["evaluations"] = self.__dict__.get("evaluations", 0) + networks
        self.__dict__["points"] = self.__dict__.get("points", 0) + networks * y.shape[-2]
        return super().loss_and_gradient(theta, x, y)


def test_the_cost_is_what_a_meta_iteration_spends(algorithm):
    module, h = algorithm
    network = Counting((1, 4, 1))
    theta = thetas(seeds=(0,), network=network)
    module.meta_gradient(network, theta, one_iteration(module, h, seeds=(0,)), h)
    counted = network.__dict__.get("evaluations", 0), network.__dict__.get("points", 0)
    assert module.cost(h, FLUX)[1:] == counted


@pytest.mark.parametrize(
    # Tasks, gradient evaluations and point-gradients of a meta-iteration, counted in the Flux script.
    ("name", "expected"),
    [("fomaml", (3, 6, 180)), ("reptile", (1, 5, 50)), ("joint", (1, 1, 50)), ("random", (0, 0, 0))],
)
def test_the_costs_are_the_flux_scripts(name, expected):
    assert algorithms.load(name).cost(small.published(name).hyperparameters, FLUX) == expected


# FOMAML.

FOMAML = Hyperparameters(meta_step_size=0.01, meta_batch_size=3, shots=10, inner_steps=1, inner_step_size=0.02)


def test_fomaml_draws_fresh_support_points_and_queries_the_grid():
    support, query = fomaml.sample(stream(FOMAML), 0, FOMAML)
    assert support.x.shape == support.y.shape == (BLOCK, 3, 3, 10, 1)
    assert support.x.unique().numel() == support.x.numel()
    assert query.y.shape == (BLOCK, 3, 3, 50, 1)
    assert (query.x == FLUX.grid).all()


def test_fomaml_with_inner_step_0_sums_the_query_gradients_at_the_initialization():
    support, query = one_iteration(fomaml, FOMAML)
    found = fomaml.meta_gradient(NETWORK, thetas(), (support, query), replace(FOMAML, inner_step_size=0.0))
    at_theta = gradients(thetas()[:, None].expand(-1, 3, -1), *query)
    torch.testing.assert_close(found, at_theta[:, 0] + at_theta[:, 1] + at_theta[:, 2], **EXACT)


def test_fomaml_with_inner_step_0_is_joint_training_on_the_grid_up_to_the_number_of_tasks():
    batch = one_iteration(fomaml, FOMAML)
    summed = fomaml.meta_gradient(NETWORK, thetas(), batch, replace(FOMAML, inner_step_size=0.0))
    query = Points(batch[1].x.expand_as(batch[1].y), batch[1].y)
    mean = joint.meta_gradient(NETWORK, thetas(), (query,), FOMAML)
    torch.testing.assert_close(summed, 3 * mean, **EXACT)


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_fomaml_takes_the_query_gradient_at_the_adapted_parameters(inner_steps):
    h = replace(FOMAML, inner_steps=inner_steps)
    support, query = one_iteration(fomaml, h)
    phi = thetas()[:, None].expand(-1, 3, -1)
    for _ in range(inner_steps):
        phi = phi - 0.02 * gradients(phi, *support)
    found = fomaml.meta_gradient(NETWORK, thetas(), (support, query), h)
    torch.testing.assert_close(found, gradients(phi, *query).sum(1), **EXACT)
    at_theta = gradients(thetas()[:, None].expand(-1, 3, -1), *query).sum(1)
    assert ((found - at_theta).norm(dim=-1) > 0.05 * at_theta.norm(dim=-1)).all(), "which is another gradient"


def test_fomaml_sums_over_tasks():
    batch = one_iteration(fomaml, FOMAML)
    alone = [
        fomaml.meta_gradient(
            NETWORK,
            thetas(),
            (Points(batch[0].x[:, t : t + 1], batch[0].y[:, t : t + 1]), Points(batch[1].x, batch[1].y[:, t : t + 1])),
            replace(FOMAML, meta_batch_size=1),
        )
        for t in range(3)
    ]
    torch.testing.assert_close(fomaml.meta_gradient(NETWORK, thetas(), batch, FOMAML), sum(alone), **EXACT)


# Reptile.

REPTILE = Hyperparameters(meta_step_size=0.1, meta_batch_size=1, shots=10, inner_steps=5, inner_step_size=0.02)


def test_reptiles_mini_batches_are_disjoint_and_together_the_grid():
    (batches,) = reptile.sample(stream(REPTILE), 0, REPTILE)
    assert batches.x.shape == batches.y.shape == (BLOCK, 5, 3, 1, 10, 1)
    every = batches.x.movedim(1, 3).flatten(3).sort(-1).values  # (iteration, run, task, point)
    assert (every == FLUX.grid[:, 0]).all()


def test_reptile_shuffles_the_grid_of_each_task_anew():
    (batches,) = reptile.sample(stream(REPTILE), 0, REPTILE)
    orders = batches.x.movedim(1, 3).flatten(3).reshape(-1, 50)
    assert len(orders.unique(dim=0)) == len(orders)


def test_reptile_with_one_inner_step_points_along_the_gradient_of_the_mini_batch():
    h = replace(REPTILE, inner_steps=1)
    (batches,) = one_iteration(reptile, h)
    found = reptile.meta_gradient(NETWORK, thetas(), (batches,), h)
    expected = gradients(thetas()[:, None], *batches.at(0))[:, 0]
    torch.testing.assert_close(found, 0.02 * expected, **EXACT)
    on_the_same_points = joint.meta_gradient(NETWORK, thetas(), (batches.at(0),), h)
    torch.testing.assert_close(found, 0.02 * on_the_same_points, **EXACT)


def test_reptiles_direction_is_the_sum_of_its_inner_steps():
    (batches,) = one_iteration(reptile, REPTILE)
    phi, total = thetas()[:, None], torch.zeros_like(thetas())
    for k in range(5):
        gradient = gradients(phi, *batches.at(k))
        phi, total = phi - 0.02 * gradient, total + gradient[:, 0]
    torch.testing.assert_close(reptile.meta_gradient(NETWORK, thetas(), (batches,), REPTILE), 0.02 * total, **EXACT)


def test_reptile_moves_a_tenth_of_the_way_towards_the_adapted_parameters():
    (batches,) = one_iteration(reptile, REPTILE)
    theta = thetas()
    own = [[(batches.x[k, r, 0], batches.y[k, r, 0]) for k in range(5)] for r in range(3)]
    phi = torch.stack([peers.adapted(NETWORK, theta[r], own[r], 0.02) for r in range(3)])
    moved = theta - 0.1 * reptile.meta_gradient(NETWORK, theta, (batches,), REPTILE)
    # 0.9 of the way is left; in the wrong direction it would be 1.1.
    torch.testing.assert_close((moved - phi).norm(dim=-1), 0.9 * (theta - phi).norm(dim=-1), **EXACT)


def test_reptile_averages_over_the_tasks_of_a_meta_batch():
    h = replace(REPTILE, meta_batch_size=2)
    (batches,) = one_iteration(reptile, h)
    alone = [
        reptile.meta_gradient(
            NETWORK, thetas(), (Points(batches.x[:, :, t : t + 1], batches.y[:, :, t : t + 1]),), REPTILE
        )
        for t in range(2)
    ]
    found = reptile.meta_gradient(NETWORK, thetas(), (batches,), h)
    torch.testing.assert_close(found, (alone[0] + alone[1]) / 2, **EXACT)


def test_reptile_refuses_mini_batches_that_the_grid_cannot_fill():
    with pytest.raises(ValueError, match=r"must not exceed grid_points, got 6 \* 10 > 50"):
        reptile.cost(replace(REPTILE, inner_steps=6), FLUX)


# Joint training.

JOINT = Hyperparameters(meta_step_size=0.01, meta_batch_size=2, shots=50)


def test_joint_training_averages_the_gradients_of_its_tasks_at_the_initialization():
    (points,) = one_iteration(joint, JOINT)
    expected = gradients(thetas()[:, None].expand(-1, 2, -1), *points)
    found = joint.meta_gradient(NETWORK, thetas(), (points,), JOINT)
    torch.testing.assert_close(found, (expected[:, 0] + expected[:, 1]) / 2, **EXACT)


def test_joint_training_draws_fresh_points():
    (points,) = joint.sample(stream(JOINT), 0, JOINT)
    assert points.x.shape == (BLOCK, 3, 2, 50, 1)
    assert points.x.unique().numel() == points.x.numel()


def test_random_initialization_learns_nothing():
    module, h = algorithms.load("random"), small.published("random").hyperparameters
    assert not module.meta_gradient(NETWORK, thetas(), (), h).any()
