from dataclasses import fields
from math import pi, sqrt

import pytest
import torch

from metabench.learning.randomness import BLOCK
from metabench.learning.tasks import Bank, Sine, SineDistribution, TaskStream

FLUX = SineDistribution()
MEAN_SQUARE = 4.2517  # E[A^2] / 2 = (5^3 - 0.1^3) / (3 * 4.9) / 2


def wave(amplitude, phase):
    return Sine(
        torch.tensor(amplitude, dtype=torch.float64), torch.tensor(phase, dtype=torch.float64)
    )


def test_the_sine_has_the_flux_scripts_sign_of_phase():
    assert wave(3.0, pi / 2)(torch.zeros(1, 1)).item() == pytest.approx(3.0)
    quarter = torch.full((1, 1), pi / 4, dtype=torch.float64)
    assert wave(3.0, pi / 4)(quarter).item() == pytest.approx(3.0), "y = A sin(x + phase)"


def test_a_stack_of_waves_evaluates_each_at_its_own_points():
    x = torch.tensor([[[0.5], [1.0]], [[2.0], [3.0]]], dtype=torch.float64)
    y = wave([2.0, 4.0], [1.0, 0.0])(x)
    expected = [[2 * torch.sin(torch.tensor(1.5)), 2 * torch.sin(torch.tensor(2.0))]]
    assert y[0, :, 0].tolist() == pytest.approx([float(v) for v in expected[0]])
    assert y[1, 1, 0].item() == pytest.approx(4 * 0.1411200081)  # sin 3


def test_the_grid_has_50_evenly_spaced_points_with_both_ends():
    x = FLUX.grid[:, 0]
    assert FLUX.grid.shape == (50, 1)
    assert (x[0], x[-1]) == (-5, 5)
    torch.testing.assert_close(x.diff(), torch.full((49,), 10 / 49, dtype=torch.float64))


@pytest.mark.parametrize(("name", "low", "high"), [("amplitude", 0.1, 5.0), ("phase", 0.0, 2 * pi)])
def test_amplitude_and_phase_are_uniform_on_their_intervals(name, low, high):
    values = getattr(Bank(0, "test-bank", FLUX, 20_000).drawn, name)
    standard_error = (high - low) / sqrt(12 * len(values))
    assert low <= values.min() < low + 0.01
    assert high - 0.01 < values.max() < high
    assert abs(values.mean() - (low + high) / 2) < 3 * standard_error


def test_the_mean_square_of_a_wave_is_4_2517():
    square = Bank(0, "test-bank", FLUX, 20_000).drawn(FLUX.grid).square().mean((-2, -1))
    assert abs(square.mean() - MEAN_SQUARE) < 3 * square.std() / sqrt(len(square))


def of_tasks(stream, block):
    """All data of a block with one row a task: ``(run, task, ...)``."""
    tasks = stream.block(block)
    data = (
        tasks.drawn.amplitude,
        tasks.drawn.phase,
        tasks.support(4).x,
        tasks.query(3).x,
        tasks.shuffles(),
    )
    return [d.transpose(0, 1).flatten(1, 2) for d in data]


@pytest.mark.parametrize("meta_batch_size", [2, 3])
def test_the_nth_task_of_a_seed_is_the_same_for_every_meta_batch_size(meta_batch_size):
    single = TaskStream(FLUX, (0, 5), 1)
    batched = of_tasks(TaskStream(FLUX, (0, 5), meta_batch_size), 1)
    blocks = [of_tasks(single, block) for block in range(meta_batch_size, 2 * meta_batch_size)]
    for tasks, parts in zip(batched, zip(*blocks, strict=True), strict=True):
        assert tasks.shape[1] == meta_batch_size * BLOCK
        assert torch.equal(tasks, torch.cat(parts, dim=1))


def test_the_tasks_of_a_run_do_not_depend_on_its_neighbours():
    stack = of_tasks(TaskStream(FLUX, (3, 8, 1), 1), 0)
    for run, seed in enumerate((3, 8, 1)):
        alone = of_tasks(TaskStream(FLUX, (seed,), 1), 0)
        assert all(
            torch.equal(together[run], one[0]) for together, one in zip(stack, alone, strict=True)
        )


def test_no_task_of_a_training_stream_comes_twice():
    waves = [TaskStream(FLUX, (0, 1), 3).block(block).drawn for block in range(2)]
    pairs = torch.cat([torch.stack([w.amplitude, w.phase], -1).reshape(-1, 2) for w in waves])
    assert len(pairs.unique(dim=0)) == 2 * 2 * 3 * BLOCK


def test_fresh_points_are_uniform_on_the_domain():
    x = TaskStream(FLUX.model_copy(update={"domain": (-5.0, 7.0)}), (0,), 1).block(0).support(10).x
    assert x.shape == (BLOCK, 1, 1, 10, 1)
    assert -5 <= x.min() < -4.99
    assert 6.99 < x.max() < 7
    assert abs(x.mean() - 1) < 3 * 12 / sqrt(12 * x.numel())


def varied(least, most, least_width, seeds=(0, 1, 2)):
    return TaskStream(FLUX, seeds, 2).block(0).varied_support(least, most, least_width)


def test_the_size_of_a_varied_support_set_is_uniform_between_its_bounds():
    points = varied(3, 6, 1.0)
    sizes = (~points.y.isnan()).sum((-2, -1))  # (iteration, run, task)
    shares = sizes.flatten().bincount(minlength=8) / sizes.numel()
    error = sqrt(1 / 4 * 3 / 4 / sizes.numel())
    assert shares[:3].sum() == shares[7] == 0
    assert (shares[3:7] - 1 / 4).abs().max() < 4 * error
    known = ~points.y.isnan()
    assert torch.equal(known, known.cummin(-2).values), "the first points are those of the set"
    assert points.x.isfinite().all()


def test_a_varied_support_set_is_uniform_on_an_interval_of_random_width_and_place():
    x = varied(200, 200, 0.5)[0][:, :1, 0, :, 0].flatten(0, 1)  # (set, point)
    low, high = x.min(-1).values, x.max(-1).values
    width = (high - low) / 10 * 201 / 199  # by how much the extremes of 200 points fall short
    assert low.min() >= -5 and high.max() <= 5
    assert 0.48 < width.min() < 0.52 and 0.98 < width.max() < 1.02
    error = 0.5 / sqrt(12 * len(x))
    assert (width.mean() - 0.75).abs() < 4 * error
    assert ((low + high) / 2).mean().abs() < 4 * 5 / sqrt(12 * len(x))
    inside = ((x - low[:, None]) / (high - low)[:, None]).mean()
    assert (inside - 0.5).abs() < 4 / sqrt(12 * x.numel())


def test_a_support_set_of_one_size_on_the_whole_domain_is_the_usual_one():
    usual, found = TaskStream(FLUX, (0, 1, 2), 2).block(0).support(5), varied(5, 5, 1.0)
    assert torch.equal(found.x, usual.x) and torch.equal(found.y, usual.y)


def test_the_varied_support_sets_of_a_run_do_not_depend_on_its_neighbours():
    together, alone = varied(1, 9, 0.3), varied(1, 9, 0.3, seeds=(1,))
    assert torch.equal(together.x[:, 1], alone.x[:, 0])
    assert torch.equal(together.y[:, 1].nan_to_num(), alone.y[:, 0].nan_to_num())


def test_the_support_points_of_a_bank_are_uniform_on_the_protocols_interval():
    x = Bank(0, "test-bank", FLUX, 4000).support(5, (0.0, 5.0)).x
    assert x.shape == (4000, 5, 1)
    assert x.unique().numel() == x.numel(), "every task and shot has a point of its own"
    assert 0 <= x.min() < 0.01
    assert 4.99 < x.max() < 5
    assert abs(x.mean() - 2.5) < 3 * 5 / sqrt(12 * x.numel())


def test_a_larger_bank_begins_with_the_tasks_of_a_smaller():
    small, large = (Bank(0, "test-bank", FLUX, tasks) for tasks in (7, 100))
    assert torch.equal(large.drawn.amplitude[:7], small.drawn.amplitude)
    assert torch.equal(large.drawn.phase[:7], small.drawn.phase)
    assert torch.equal(large.support(5, (0.0, 5.0)).x[:7], small.support(5, (0.0, 5.0)).x)


def test_more_shots_begin_with_the_points_of_fewer():
    bank = Bank(0, "test-bank", FLUX, 20)
    assert torch.equal(bank.support(10, (-5.0, 5.0)).x[:, :5], bank.support(5, (-5.0, 5.0)).x)


def pairs(waves):
    return set(zip(waves.amplitude.flatten().tolist(), waves.phase.flatten().tolist(), strict=True))


def test_no_validation_task_is_in_the_test_bank():
    validation, test = (
        pairs(Bank(0, f"{name}-bank", FLUX, 1000).drawn) for name in ("validation", "test")
    )
    assert len(validation) == len(test) == 1000
    assert validation.isdisjoint(test)


def test_no_held_out_task_is_trained_on():
    trained = pairs(TaskStream(FLUX, tuple(range(10)), 1).block(0).drawn)
    for name in ("validation-bank", "test-bank"):
        assert trained.isdisjoint(pairs(Bank(0, name, FLUX, 1000).drawn))


def test_equal_distributions_have_equal_tasks_and_other_noise_the_same_waves():
    """What differs between two studies, or noise levels, is then never the test tasks."""
    quiet, noisy = (Bank(0, "test-bank", SineDistribution(noise=s), 20) for s in (0.0, 0.3))
    assert pairs(quiet.drawn) == pairs(noisy.drawn)
    assert torch.equal(quiet.support(5, (0.0, 5.0)).x, noisy.support(5, (0.0, 5.0)).x)


def test_a_bank_belongs_to_its_number_and_to_no_seed_or_study():
    assert {field.name for field in fields(Bank)} == {"number", "purpose", "distribution", "tasks"}
    before = Bank(0, "test-bank", FLUX, 50).support(5, (0.0, 5.0)).x
    TaskStream(FLUX, (0, 1), 1).block(0).support(5)
    assert torch.equal(Bank(0, "test-bank", FLUX, 50).support(5, (0.0, 5.0)).x, before)
    assert pairs(Bank(1, "test-bank", FLUX, 50).drawn).isdisjoint(
        pairs(Bank(0, "test-bank", FLUX, 50).drawn)
    )
