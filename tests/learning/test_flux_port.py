"""The Flux script, ported line by line, against the package: the same draws must give the same
parameters.

The loops are the script's: one model changed in place and reset, torch.optim.SGD for its
optimizers, gradients accumulated by hand, no stack and no function of the package. Only random
numbers come from the package's streams.
"""

from copy import deepcopy

import peers
import pytest
import small
import torch
from torch.nn.functional import mse_loss

from metabench.learning import algorithms
from metabench.learning.evaluation import Step, adaptation_losses
from metabench.learning.held_out import held_out
from metabench.learning.network import Network
from metabench.learning.tasks import Bank, SineDistribution, TaskStream
from metabench.learning.training import train

META_ITERATIONS = 100
SEEDS = (2, 7)
NETWORK = Network((1, 64, 64, 1))
TESTX = torch.linspace(-5, 5, 50, dtype=torch.float64)


class SineWave:
    """A wave with an amplitude and a phase shift."""

    def __init__(self, amplitude, phase_shift):
        self.amplitude, self.phase_shift = amplitude, phase_shift

    def __call__(self, x):
        return self.amplitude * torch.sin(x + self.phase_shift)


class Draws:
    """What the script takes from its random stream, in its order, for one seed."""

    def __init__(self, seed, n_tasks, batch_size):
        tasks = TaskStream(SineDistribution(), (seed,), n_tasks).block(0)
        waves = tasks.drawn
        self.waves = zip(
            waves.amplitude.flatten().tolist(), waves.phase.flatten().tolist(), strict=True
        )
        self.points = iter(tasks.support(batch_size).x.reshape(-1, batch_size))
        self.orders = iter(tasks.shuffles().reshape(-1, len(TESTX)))

    def wave(self):
        return SineWave(*next(self.waves))

    def x(self):
        return next(self.points)

    def randperm(self):
        return next(self.orders)


def column(x):
    return x[:, None]


def fomaml(model, draws, epochs):
    weights = list(model.parameters())
    meta_opt, inner_opt = torch.optim.SGD(weights, lr=0.01), torch.optim.SGD(weights, lr=0.02)
    for _ in range(epochs):
        prev_weights = [w.detach().clone() for w in weights]
        accumulated = [torch.zeros_like(w) for w in weights]
        for _ in range(3):
            task = draws.wave()
            x = draws.x()
            y = task(x)
            inner_opt.zero_grad()
            mse_loss(model(column(x)), column(y)).backward()
            inner_opt.step()

            testy = task(TESTX)
            model.zero_grad()
            mse_loss(model(column(TESTX)), column(testy)).backward()

            with torch.no_grad():
                for w1, w2, total in zip(weights, prev_weights, accumulated, strict=True):
                    w1.copy_(w2)
                    total += w1.grad
        for w, total in zip(weights, accumulated, strict=True):
            w.grad = total
        meta_opt.step()


def reptile(model, draws, epochs):
    weights = list(model.parameters())
    inner_opt = torch.optim.SGD(weights, lr=0.02)
    for _ in range(epochs):
        prev_weights = [w.detach().clone() for w in weights]
        task = draws.wave()
        y = task(TESTX)
        for idx in draws.randperm().split(10):
            inner_opt.zero_grad()
            mse_loss(model(column(TESTX[idx])), column(y[idx])).backward()
            inner_opt.step()
        with torch.no_grad():
            for w1, w2 in zip(weights, prev_weights, strict=True):
                w1.copy_(w2 + 0.1 * (w1 - w2))


def joint(model, draws, epochs):
    opt = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(epochs):
        task = draws.wave()
        x = draws.x()
        opt.zero_grad()
        mse_loss(model(column(x)), column(task(x))).backward()
        opt.step()


def eval_model(model, x, testx, task, updates):
    """Fine-tune a copy: the script's own restores the weights afterwards, to the same effect."""
    model = deepcopy(model)
    opt = torch.optim.SGD(model.parameters(), lr=0.02)
    y, testy = task(x), task(testx)
    test_losses = [mse_loss(model(column(testx)), column(testy)).item()]
    for _ in range(updates):
        opt.zero_grad()
        mse_loss(model(column(x)), column(y)).backward()
        opt.step()
        test_losses.append(mse_loss(model(column(testx)), column(testy)).item())
    return test_losses


@pytest.mark.parametrize(
    ("port", "n_tasks", "batch_size"), [(fomaml, 3, 10), (reptile, 1, 10), (joint, 1, 50)]
)
def test_training_gives_the_parameters_of_the_flux_script(port, n_tasks, batch_size):
    name = port.__name__
    settings = small.train_settings(name, META_ITERATIONS, validation={"interval": 40})
    found = train(settings, SEEDS, algorithms.load(name), dtype=torch.float64).theta
    for run, seed in enumerate(SEEDS):
        model = peers.module_of(NETWORK, NETWORK.initialize(seed))
        port(model, Draws(seed, n_tasks, batch_size), META_ITERATIONS)
        expected = peers.vector_of(list(model.parameters()))
        assert (found[run] - expected).abs().max() < 1e-9
        assert (found[run] - NETWORK.initialize(seed)).abs().max() > 0.01, "and they have moved"


def test_single_precision_stays_near_the_flux_script_in_double():
    settings = small.train_settings("fomaml", META_ITERATIONS)
    single, double = (
        train(settings, (2,), algorithms.load("fomaml"), dtype=dtype).theta
        for dtype in (torch.float32, torch.float64)
    )
    # Rounding is 6e-8 an operation and grows slowly over 100 meta-iterations.
    assert (single.double() - double).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("shots", "interval", "updates"),
    # The script's evaluation, and its test of robustness.
    [(10, (-5.0, 5.0), 32), (5, (0.0, 5.0), 10)],
    ids=["standard", "robustness"],
)
def test_evaluation_gives_the_losses_of_the_flux_script(shots, interval, updates):
    theta = torch.stack([NETWORK.initialize(seed) for seed in SEEDS])
    bank = Bank(0, "test-bank", SineDistribution(), 3)
    tasks = held_out(small.protocol(shots, interval), SineDistribution(), "test-bank", 3)
    step = Step(torch.full((2,), 0.02, dtype=torch.float64))
    found = adaptation_losses(small.plain(NETWORK), theta, tasks, updates, step)[0]
    assert found.shape == (updates + 1, 2, 3), "updates + 1 losses, the first before any update"
    waves, points = bank.drawn, bank.support(shots, interval).x
    for run in range(2):
        model = peers.module_of(NETWORK, theta[run])
        for t in range(3):
            wave = SineWave(waves.amplitude[t], waves.phase[t])
            expected = eval_model(model, points[t, :, 0], TESTX, wave, updates)
            # An untrained network does not settle at this step size, and its 32 updates amplify
            # rounding to 1e-7.
            assert found[:10, run, t].tolist() == pytest.approx(expected[:10], rel=1e-11)
            assert found[:, run, t].tolist() == pytest.approx(expected, rel=1e-6)
