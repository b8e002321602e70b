"""DR-MAML is MAML on the worst tasks of each meta-batch."""

import pytest
import torch

from metabench.check_algorithm.subject import Subject
from metabench.learning.algorithms import dr_maml, maml
from metabench.learning.network import Network
from metabench.learning.randomness import BLOCK
from metabench.learning.settings import NetworkSettings
from metabench.learning.tasks import Points, SineDistribution, TaskStream

TASKS = SineDistribution()
NETWORK = Network((1, 8, 8, 1))
SEEDS = (4, 0, 9)
EXACT = {"rtol": 1e-10, "atol": 1e-12}

H = dr_maml.Hyperparameters(
    meta_step_size=0.01, meta_batch_size=7, shots=5, inner_steps=2, inner_step_size=0.05
)


def but(**changes):
    """Hyperparameters with others in place of some."""
    return dr_maml.Hyperparameters.model_validate({**H.model_dump(), **changes})


def of_maml(h):
    """MAML's hyperparameters, as far as they are the same."""
    return maml.Hyperparameters.model_validate(h.model_dump(exclude={"risk_level"}))


def thetas(dtype=torch.float64, seeds=SEEDS):
    return torch.stack([NETWORK.initialize(seed) for seed in seeds]).to(dtype)


def batch(h, dtype=torch.float64, i=0, seeds=SEEDS):
    block = TaskStream(TASKS, seeds, h.meta_batch_size).block(i // BLOCK)
    return tuple(points.at(i % BLOCK).to(dtype) for points in dr_maml.ALGORITHM.sample(block, h))


def loss(theta, x, y):
    """The mean squared error of one network, written with matrix products for autograd."""
    for layer, (weight, bias) in enumerate(NETWORK.layers(theta)):
        x = (torch.tanh(x) if layer else x) @ weight + bias
    return (x - y).square().mean()


def query_losses(theta, support, query, h):
    """The loss of each task of one run after adaptation, through which autograd goes."""
    found = []
    for task in range(h.meta_batch_size):
        phi = theta
        for _ in range(h.inner_steps):
            given = loss(phi, support.x[task], support.y[task])
            phi = phi - h.inner_step_size * torch.autograd.grad(given, phi, create_graph=True)[0]
        x = query.x if query.x.dim() == 2 else query.x[task]
        found.append(loss(phi, x, query.y[task]))
    return torch.stack(found)


def literal(h, data, kept):
    """T times the gradient of the mean of the largest losses, by autograd."""
    support, (x, y) = data
    rows = []
    for run, theta in enumerate(thetas()):
        theta.requires_grad_()
        query = Points(x if x.dim() == 2 else x[run], y[run])
        losses = query_losses(theta, support.at(run), query, h)
        worst = sorted(losses, key=torch.Tensor.item)[-kept:]
        mean = torch.stack(worst).mean()
        rows.append(h.meta_batch_size * torch.autograd.grad(mean, theta)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("queries", [None, 4])
@pytest.mark.parametrize(("risk_level", "kept"), [(0.0, 7), (0.5, 4), (0.7, 2), (0.99, 1)])
def test_the_direction_is_the_gradient_of_the_mean_of_the_largest_losses(risk_level, kept, queries):
    h = but(risk_level=risk_level, queries=queries)
    data = batch(h)
    found = dr_maml.meta_gradient(NETWORK, thetas(), data, h)
    torch.testing.assert_close(found, literal(h, data, kept), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_risk_it_is_maml_to_the_last_bit(dtype, each_engine):
    h = but(risk_level=0.0)
    for i in range(5):
        data = batch(h, dtype, i)
        found = dr_maml.meta_gradient(NETWORK, thetas(dtype), data, h)
        assert torch.equal(found, maml.meta_gradient(NETWORK, thetas(dtype), data, of_maml(h)))
    assert dr_maml.cost(h, TASKS) == maml.ALGORITHM.cost(of_maml(h), TASKS)


def test_near_the_highest_risk_it_is_maml_on_the_worst_task_alone():
    h = but(risk_level=0.99)
    data = batch(h)
    found = dr_maml.meta_gradient(NETWORK, thetas(), data, h)
    one = of_maml(but(meta_batch_size=1))
    for run in range(len(SEEDS)):
        support, query = (Points(*points).at(slice(run, run + 1)) for points in _own_x(data))
        losses = query_losses(thetas()[run].requires_grad_(), support.at(0), query.at(0), h)
        worst = int(losses.argmax())
        alone = tuple(Points(x[:, worst, None], y[:, worst, None]) for x, y in (support, query))
        expected = 7 * maml.meta_gradient(NETWORK, thetas()[run : run + 1], alone, one)
        torch.testing.assert_close(found[run : run + 1], expected, **EXACT)


def _own_x(data):
    """Points whose x have an axis of runs and tasks."""
    return [Points(x.expand(*y.shape[:-1], -1), y) for x, y in data]


def test_tasks_outside_the_tail_change_nothing_while_they_stay_outside():
    h = but(risk_level=0.7)
    support, query = batch(h)
    before = dr_maml.meta_gradient(NETWORK, thetas(), (support, query), h)
    moved = Points(query.x, query.y.clone())
    for run in range(len(SEEDS)):
        own = query_losses(thetas()[run].requires_grad_(), support.at(run), _run(query, run), h)
        moved.y[run, own.argmin()] += 1e-3
    assert torch.equal(before, dr_maml.meta_gradient(NETWORK, thetas(), (support, moved), h))
    assert not torch.equal(
        maml.meta_gradient(NETWORK, thetas(), (support, query), of_maml(h)),
        maml.meta_gradient(NETWORK, thetas(), (support, moved), of_maml(h)),
    )


def _run(query, run):
    return Points(query.x if query.x.dim() == 2 else query.x[run], query.y[run])


def test_each_run_has_a_tail_of_its_own(each_engine):
    h = but(risk_level=0.7)
    together = dr_maml.meta_gradient(NETWORK, thetas(torch.float32), batch(h, torch.float32), h)
    for run, seed in enumerate(SEEDS):
        data = batch(h, torch.float32, seeds=(seed,))
        alone = dr_maml.meta_gradient(NETWORK, thetas(torch.float32, (seed,)), data, h)
        assert torch.equal(alone[0], together[run])


@pytest.mark.parametrize(
    ("risk_level", "tasks", "kept"),
    # 1 - 0.7 is a little more than 0.3 in binary: rounded up, ten tasks would keep four.
    [(0.7, 10, 3), (0.7, 3, 1), (0.9, 10, 1), (0.95, 10, 1), (0.0, 10, 10), (0.25, 4, 3)],
)
def test_the_tail_is_the_share_that_is_not_left_out_and_never_empty(risk_level, tasks, kept):
    h = but(risk_level=risk_level, meta_batch_size=tasks)
    assert dr_maml._kept(h) == kept


def test_the_cost_is_that_of_maml_on_the_tail_and_of_screening_all_tasks():
    h = but(risk_level=0.7, meta_batch_size=10, shots=10, inner_steps=1)
    # Tail: 3 tasks with 3 * 10 + 50. Screening: 10 tasks with 10 + 50 / 3.
    assert dr_maml.cost(h, TASKS) == (10, 3 * 4 + 10, 3 * 80 + 267)


def final_losses(name, h):
    """Losses of tasks that come later in the stream after training, ``(run, task)``."""
    subject = Subject(name, NetworkSettings(hidden=(16, 16)), TASKS, h.model_dump())
    theta = subject.train(600, interval=600).theta
    support, query = batch(but(meta_batch_size=200), torch.float32, i=5000)
    after = subject.predict(theta, support, query.x, updates=2)[-1]
    return (after - query.y).square().mean((-2, -1))


def test_training_on_the_tail_helps_the_worst_tasks_and_not_the_best():
    h = but(meta_optimizer="adam", meta_step_size=0.003, inner_step_size=0.02, meta_batch_size=10)
    of_each = {"dr_maml": h, "maml": of_maml(h)}
    tail, mean = (final_losses(name, of).sort().values for name, of in of_each.items())
    assert tail[:, -60:].mean() < mean[:, -60:].mean(), "the worst 30 %"
    assert tail[:, :60].mean() > mean[:, :60].mean(), "the best 30 %"
