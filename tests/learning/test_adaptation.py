from itertools import pairwise

import peers
import torch

from metabench.learning.adaptation import adapted, mean_over_tasks, one_copy_per_task, predictions
from metabench.learning.network import Network
from metabench.learning.step_sizes import descended
from metabench.learning.tasks import Points

NETWORK = Network((1, 8, 8, 1))
SEEDS = (0, 1)


def problem():
    theta = torch.stack([NETWORK.initialize(seed) for seed in SEEDS])
    x = torch.linspace(-3, 5, 2 * 3 * 4, dtype=torch.float64).reshape(2, 3, 4, 1)
    return one_copy_per_task(theta, 3), Points(x, 2 * torch.sin(x + 1))


def test_adaptation_takes_a_step_down_the_gradient_at_each_update(each_engine):
    phi, points = problem()
    found = [adapted(NETWORK, phi, points.repeated(updates), 0.02) for updates in range(5)]
    assert torch.equal(found[0], phi)
    for before, after in pairwise(found):
        _, gradient = NETWORK.loss_and_gradient(before, *points)
        torch.testing.assert_close(after, before - 0.02 * gradient, rtol=1e-14, atol=1e-14)


def test_predictions_are_those_of_the_parameters_before_and_after_each_update(each_engine):
    phi, points = problem()
    x = torch.linspace(-5, 5, 9, dtype=torch.float64)[:, None]
    found = predictions(NETWORK, phi, points.repeated(4), 0.02, x)
    for updates in range(5):
        assert torch.equal(
            found[updates],
            NETWORK.predict(adapted(NETWORK, phi, points.repeated(updates), 0.02), x),
        )


def test_adaptation_leaves_the_initialization_alone():
    theta = torch.stack([NETWORK.initialize(seed) for seed in SEEDS])
    before, (_, points) = theta.clone(), problem()
    for step_size in (0.02, torch.full((2, 3), 0.02, dtype=torch.float64)):
        adapted(NETWORK, one_copy_per_task(theta, 3), points.repeated(3), step_size)
        assert torch.equal(theta, before)


def test_updates_are_steps_of_torch_optim_sgd():
    phi, points = problem()
    batches = [points, Points(points.x.flip(-2), points.y.flip(-2) + 1), points]
    found = adapted(NETWORK, phi, Points(*map(torch.stack, zip(*batches, strict=True))), 0.05)
    for r in range(2):
        for t in range(3):
            own = [(b.x[r, t], b.y[r, t]) for b in batches]
            torch.testing.assert_close(
                found[r, t], peers.adapted(NETWORK, phi[r, t], own, 0.05), rtol=1e-12, atol=1e-12
            )


def test_each_network_takes_its_own_step_size():
    phi, points = problem()
    steps = torch.tensor([[0.01, 0.02, 0.04], [0.0, 0.08, 0.16]], dtype=torch.float64)
    together = adapted(NETWORK, phi, points.repeated(2), steps)
    for r in range(2):
        for t in range(3):
            alone = adapted(NETWORK, phi[r, t], points.at(r).at(t).repeated(2), steps[r, t].item())
            torch.testing.assert_close(together[r, t], alone, rtol=1e-14, atol=1e-14)
    assert torch.equal(together[1, 0], phi[1, 0]), "a step of size zero changes nothing"


def test_descending_goes_against_the_gradient():
    phi, gradient = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, -4.0]])
    assert descended(phi, gradient, 0.25).tolist() == [[0.5, 2.0]]
    assert descended(phi, gradient, torch.tensor([0.25])).tolist() == [[0.5, 2.0]]


def test_every_task_has_a_copy_of_its_runs_initialization():
    theta = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    copies = one_copy_per_task(theta, 3)
    assert copies.shape == (2, 3, 2)
    assert (copies == theta[:, None]).all()


def test_points_are_indexed_and_cast_together():
    _, points = problem()
    assert torch.equal(points.at(1).x, points.x[1])
    assert torch.equal(points.at(slice(1, 2)).y, points.y[1:2])
    assert [p.dtype for p in points.to(torch.float32)] == [torch.float32, torch.float32]


def test_the_mean_over_tasks_is_a_mean_of_one_thing_too():
    phi = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    assert mean_over_tasks(phi).tolist() == [[2.0, 4.0]]
    assert mean_over_tasks(phi[:, :1]).tolist() == [[1.0, 2.0]]
