"""Implicit MAML: its inner loop, its linear systems and its limits, compared with autograd."""

import pytest
import torch

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Question
from metabench.learning.algorithms import fomaml, imaml
from metabench.learning.network import Network
from metabench.learning.tasks import PlaneWaveDistribution, SineDistribution, TaskStream

SEEDS = (4, 0, 9)
NETWORK = Network((1, 5, 4, 1))
H = imaml.Hyperparameters(
    meta_step_size=0.01,
    meta_batch_size=2,
    shots=6,
    inner_steps=100,
    inner_step_size=0.02,
    regularization=6.0,
    cg_steps=5,
)
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64, whose sums may run in another order
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


def but(**changes):
    """Hyperparameters with others in place of some."""
    return H.model_copy(update=changes)


def problem(h=H, network=NETWORK):
    """The initial weights of each run, and the data of a meta-iteration, float64."""
    tasks = SineDistribution() if network.widths[0] == 1 else PlaneWaveDistribution(grid_points=8)
    batch = imaml.ALGORITHM.sample(TaskStream(tasks, SEEDS, h.meta_batch_size).block(0), h)
    theta = torch.stack([network.initialize(seed) for seed in SEEDS])
    return theta, tuple(points.at(7) for points in batch)


def of_tasks(batch):
    """Yield run, task, support set and query set of each task."""
    support, query = batch
    x = query.x.expand(*query.y.shape[:-1], query.x.shape[-1])
    for run, tasks in enumerate(query.y):
        for task, y in enumerate(tasks):
            yield run, task, support.at(run).at(task), query._replace(x=x[run, task], y=y)


def predict(network, phi, x):
    """One network, written with matrix products for autograd."""
    z, activation = x, ACTIVATIONS[network.activation]
    for layer, (weight, bias) in enumerate(network.layers(phi)):
        z = (activation(z) if layer else z) @ weight + bias
    return z


def loss(network, phi, points):
    """Its mean squared error."""
    return (predict(network, phi, points.x) - points.y).square().mean()


def gradient(of, phi):
    """The gradient of a loss by autograd."""
    watched = phi.clone().requires_grad_()
    return torch.autograd.grad(of(watched), watched)[0]


def adapted(network, theta, support, h):
    """The parameters after descent of the regularized loss."""

    def inner(phi):
        penalty = h.regularization / 2 * (phi - theta).square().sum()
        return loss(network, phi, support) + penalty

    phi = theta
    for _ in range(h.inner_steps):
        phi = phi - h.inner_step_size * gradient(inner, phi)
    return phi


def system(network, theta, support, query, h):
    """The matrix and the right side of the linear system of a task."""
    phi = adapted(network, theta, support, h)
    hessian = torch.autograd.functional.hessian(lambda p: loss(network, p, support), phi)
    matrix = torch.eye(len(phi), dtype=phi.dtype) + hessian / h.regularization
    assert (torch.linalg.eigvalsh(matrix) > 0).all(), "near the minimum"
    return matrix, gradient(lambda p: loss(network, p, query), phi)


def summed(vector_of, network=NETWORK, h=H):
    """The sum over tasks of a vector of the linear system of each."""
    theta, batch = problem(h, network)
    total = torch.zeros_like(theta)
    for run, _, support, query in of_tasks(batch):
        total[run] += vector_of(*system(network, theta[run], support, query, h))
    return total


@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_many_steps_of_conjugate_gradients_solve_the_system_of_autograd(activation, features):
    network, h = Network((features, 5, 4, 1), activation), but(cg_steps=100)
    expected = summed(torch.linalg.solve, network, h)
    theta, batch = problem(h, network)
    torch.testing.assert_close(imaml.meta_gradient(network, theta, batch, h), expected, **EXACT)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_few_steps_find_the_nearest_vector_that_their_products_span(steps):
    """The nearest by the norm of the matrix; conjugate gradients are not named here."""

    def nearest(matrix, g):
        b = g - matrix @ g
        powers = [torch.linalg.matrix_power(matrix, n) @ b for n in range(steps)]
        basis, _ = torch.linalg.qr(torch.stack(powers, dim=-1))
        return g + basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ b)

    h = but(cg_steps=steps)
    theta, batch = problem()
    found = imaml.meta_gradient(NETWORK, theta, batch, h)
    torch.testing.assert_close(found, summed(nearest), rtol=1e-8, atol=1e-10)
    exact = summed(torch.linalg.solve)
    assert ((found - exact).norm(dim=-1) > 1e-6 * exact.norm(dim=-1)).all(), "and no nearer one"


def test_a_direction_of_negative_curvature_ends_the_steps_of_its_task_alone():
    diagonals = torch.tensor([[2.0, -1.0], [2.0, -1.0], [2.0, 1.0]], dtype=torch.float64)
    right = torch.tensor([[1.0, 3.0], [3.0, 1.0], [3.0, 1.0]], dtype=torch.float64)
    found = imaml._solved(lambda v: diagonals * v, right, 5)
    # At once, after a step of 10 / 17, and never.
    expected = [[0.0, 0.0], [30 / 17, 10 / 17], [1.5, 1.0]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), **EXACT)


def test_on_a_linear_model_it_is_the_formula():
    """The inner minimum has a closed form, and two steps solve a system of two unknowns."""
    network = Network((1, 1))
    h = but(inner_steps=500, cg_steps=2)
    theta, batch = problem(h, network)
    expected = torch.zeros_like(theta)
    for run, _, support, query in of_tasks(batch):
        design, grid = (torch.cat([p.x, torch.ones_like(p.x)], -1) for p in (support, query))
        matrix = 2 / 6 * design.T @ design + 6.0 * torch.eye(2)
        right = 2 / 6 * design.T @ support.y[:, 0] + 6.0 * theta[run]
        residual = grid @ torch.linalg.solve(matrix, right) - query.y[:, 0]
        expected[run] += 6.0 * torch.linalg.solve(matrix, 2 / 50 * grid.T @ residual)
    torch.testing.assert_close(imaml.meta_gradient(network, theta, batch, h), expected, **EXACT)


def slope(theta, batch, direction, h):
    """The slope of the query loss after adaptation, by finite differences, ``(run,)``."""
    support, query = batch

    def after(theta):
        question = Question(support.repeated(h.inner_steps), query.x, only=[h.inner_steps])
        copies = one_copy_per_task(theta, h.meta_batch_size)
        found = imaml.predictions(NETWORK, copies, question, h)
        return (found[0] - query.y).square().mean((-2, -1)).sum(-1)

    step = 1e-5 * direction
    return (after(theta + step) - after(theta - step)) / 2e-5


def test_it_is_the_slope_of_the_query_loss_only_where_the_inner_loop_has_converged():
    errors = []
    for inner_steps in (1000, 2):
        h = but(inner_steps=inner_steps, cg_steps=100)
        theta, batch = problem(h)
        found = imaml.meta_gradient(NETWORK, theta, batch, h)
        direction = found / found.norm(dim=-1, keepdim=True)
        expected = slope(theta, batch, direction, h)
        errors.append(((found * direction).sum(-1) / expected - 1).abs())
    assert (errors[0] < 1e-6).all()
    assert (errors[1] > 0.01).all()


def test_a_strong_regularization_leaves_the_query_gradient_at_the_initialization():
    theta, batch = problem()
    at_theta = fomaml.meta_gradient(NETWORK, theta, batch, but(inner_step_size=0.0))
    gaps = []
    for strength in (1e3, 1e4):
        h = but(regularization=strength, inner_step_size=0.5 / strength, cg_steps=20)
        gaps.append((imaml.meta_gradient(NETWORK, theta, batch, h) - at_theta).norm())
    assert gaps[1] < 0.11 * gaps[0]


def test_a_solved_system_stays_solved_and_a_diverged_one_is_not_hidden():
    right = torch.tensor([[0.0, 0.0], [1.0, -3.0], [torch.nan, 1.0]])
    found = imaml._solved(lambda v: 2 * v, right, 50)
    assert found[:2].tolist() == [[0.0, 0.0], [0.5, -1.5]]
    assert found[2].isnan().all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_updates_descend_the_regularized_loss(optimizer, each_engine):
    theta, batch = problem()
    x = SineDistribution().grid
    question = Question(batch[0].repeated(4), x, optimizer=optimizer)
    found = imaml.predictions(NETWORK, one_copy_per_task(theta, 2), question, H)
    for run, task, points, _ in of_tasks(batch):
        phi = theta[run].clone().requires_grad_()
        rules = {
            "sgd": torch.optim.SGD([phi], lr=0.02),
            "adam": torch.optim.Adam([phi], lr=0.02, betas=(0.0, 0.999)),
        }
        for _ in range(4):
            penalty = 3.0 * (phi - theta[run]).square().sum()
            rules[optimizer].zero_grad()
            (loss(NETWORK, phi, points) + penalty).backward()
            rules[optimizer].step()
        expected = predict(NETWORK, phi, x).detach()
        torch.testing.assert_close(found[-1, run, task], expected, rtol=1e-7, atol=1e-9)
