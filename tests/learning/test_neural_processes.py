"""Methods that take in the support set at once, and the distributions of labels they predict."""

import pytest
import small
import torch
from torch.distributions import Normal

from metabench.check_algorithm.subject import Subject
from metabench.learning import algorithms, gaussian_head, training
from metabench.learning.algorithm import Question
from metabench.learning.autograd import gradient_of
from metabench.learning.network import Network
from metabench.learning.randomness import BLOCK
from metabench.learning.tasks import Bank, Points, SineDistribution, TaskStream
from metabench.learning.transformer import Transformer

TASKS = SineDistribution(noise=0.3)
NETWORK = Network((1, 8, 8, 1))
EXACT = {"rtol": 1e-10, "atol": 1e-12}

PROCESSES = ("conditional_neural_process", "transformer_neural_process")
AT_ONCE = (*PROCESSES, "in_context_transformer")
every_process = pytest.mark.parametrize("name", PROCESSES)
every_one = pytest.mark.parametrize("name", AT_ONCE)


def problem(name, **changes):
    """An algorithm, its hyperparameters, and a theta with nothing special, ``(M,)``."""
    algorithm = algorithms.load(name)
    h = small.published(name).hyperparameters.model_copy(update={"meta_batch_size": 2, **changes})
    theta = algorithm.begin(NETWORK, (0,), h)
    noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(0), dtype=theta.dtype)
    return algorithm, h, (theta + 0.1 * noise)[0]


def support_of(shots):
    return Bank(0, "test-bank", TASKS, 1).support(shots, (-5.0, 5.0)).at(0)


def predicted(name, support, x=TASKS.grid, updates=(1,)):
    """The predictions given a support set, and the distribution where there is one."""
    algorithm, h, theta = problem(name)
    question = Question(support.repeated(1), x, only=updates)
    adaptation = algorithm.adaptation
    found = [*adaptation.predict(NETWORK, theta, question, h)]
    if adaptation.distribution is not None:
        found += adaptation.distribution(NETWORK, theta, question, h)
    return found


def close(a, b):
    return all(torch.allclose(p, q, **EXACT) for p, q in zip(a, b, strict=True))


def turned(points):
    return Points(points.x.flip(-2), points.y.flip(-2))


# The Gaussian head.


def test_a_gaussian_head_is_a_mean_and_a_deviation_of_at_least_a_tenth():
    outputs = torch.tensor([[1.5, 0.0], [-2.0, -80.0], [0.0, 80.0]], dtype=torch.float64)
    mean, variance = gaussian_head.distribution(outputs)
    assert mean[:, 0].tolist() == [1.5, -2.0, 0.0]
    # 0.1 + 0.9 log 2, 0.1 and 0.1 + 0.9 * 80
    assert variance.sqrt()[:, 0].tolist() == pytest.approx([0.72383246, 0.1, 72.1], abs=1e-8)


def test_the_loss_of_a_gaussian_head_is_the_negative_log_likelihood():
    generator = torch.Generator().manual_seed(0)
    outputs, y = (torch.randn(3, 7, n, generator=generator).double() for n in (2, 1))
    mean, variance = gaussian_head.distribution(outputs)
    expected = -Normal(mean, variance.sqrt()).log_prob(y).mean((-2, -1))
    torch.testing.assert_close(gaussian_head.loss(outputs, y), expected, **EXACT)


def test_the_squared_error_to_the_labels_that_stand_in_has_the_gradient_of_the_likelihood():
    generator = torch.Generator().manual_seed(1)
    outputs, y = (torch.randn(3, 7, n, generator=generator).double() for n in (2, 1))
    labels = gaussian_head.stand_in(outputs, y)
    watched = outputs.clone().requires_grad_()
    square = (watched - labels).square().mean((-2, -1)).sum()
    likelihood = gaussian_head.loss(watched, y).sum()
    found, expected = (torch.autograd.grad(loss, watched)[0] for loss in (square, likelihood))
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_a_gaussian_head_has_the_bits_of_autograd(dtype):
    generator = torch.Generator().manual_seed(3)
    outputs, y = (3 * torch.randn(4, 3, 7, n, generator=generator).to(dtype) for n in (2, 1))
    outputs[0, 0, :3, 1] = torch.tensor([0.0, 80.0, -80.0])
    found = gaussian_head.gradient(outputs, y)
    assert torch.equal(found, gradient_of(lambda f: gaussian_head.loss(f, y), outputs))
    outputs[1] = torch.nan
    spoiled = gaussian_head.gradient(outputs, y)
    assert spoiled[1].isnan().all() and torch.equal(spoiled[2:], found[2:])


def test_a_gaussian_head_gives_a_number_the_same_bits_wherever_it_is_in_a_tensor():
    # z is contiguous here: only then does torch compute several numbers at a time, and a rest.
    outputs = 3 * torch.randn(2, 9, 5, 7, generator=torch.Generator().manual_seed(2)).movedim(0, -1)
    together = gaussian_head.distribution(outputs).variance
    for n in range(9):
        alone = gaussian_head.distribution(outputs[n : n + 1].clone()).variance
        assert torch.equal(alone[0], together[n])


# What predictions depend on.


@every_process
def test_a_neural_process_does_not_care_about_the_order_of_points(name):
    support = support_of(7)
    given, other = predicted(name, support), predicted(name, turned(support))
    assert close(given, other)
    assert not close(given, predicted(name, support_of(6))), "and it sees them"


def test_a_transformer_that_learns_in_context_cares_about_the_order_of_points():
    support = support_of(7)
    given, other = (predicted("in_context_transformer", s) for s in (support, turned(support)))
    assert (given[0] - other[0]).abs().max() > 1e-3


@every_one
def test_a_query_point_does_not_see_other_query_points(name):
    x = TASKS.grid.clone()
    before = predicted(name, support_of(5), x)
    x[20:] += 1
    assert close(
        [part[:20] for part in before], [p[:20] for p in predicted(name, support_of(5), x)]
    )
    assert close([part[7:8] for part in before], predicted(name, support_of(5), x[7:8]))


@every_one
def test_before_the_first_update_no_support_point_is_seen(name):
    five, nine = (predicted(name, support_of(shots), updates=(0, 1)) for shots in (5, 9))
    assert close(five[:1], nine[:1])
    assert not close(five[1:2], nine[1:2])


def test_a_conditional_neural_process_cannot_count_its_points_and_a_transformer_can():
    support = support_of(5)
    twice = Points(*(torch.cat([part, part]) for part in support))
    mean, attention = PROCESSES
    assert close(predicted(mean, twice), predicted(mean, support)), "a mean is as it was"
    assert not close(predicted(attention, twice), predicted(attention, support))


# Support sets of random sizes.


@every_process
def test_points_with_the_label_nan_are_no_part_of_a_training_set(name):
    algorithm, h, theta = problem(name)
    query = Bank(0, "test-bank", TASKS, 2).query()
    query = Points(query.x, query.y[None])
    whole = Bank(0, "test-bank", TASKS, 2).support(7, (-5.0, 5.0))
    fewer = Points(whole.x[None, :, :4], whole.y[None, :, :4])
    masked = Points(whole.x[None], whole.y[None].clone())
    masked.y[:, :, 4:] = torch.nan
    found, expected, other = (
        algorithm.meta_gradient(NETWORK, theta[None], (support, query), h)
        for support in (masked, fewer, Points(whole.x[None], whole.y[None]))
    )
    torch.testing.assert_close(found, expected, **EXACT)
    assert not torch.allclose(found, other, **EXACT)


@every_process
def test_sizes_and_intervals_of_support_sets_vary_as_told(name):
    algorithm, h, _ = problem(name, least_shots=2, shots=6, least_width=0.1)
    support, query = algorithm.sample(TaskStream(TASKS, (0, 1), 2).block(0), h)
    sizes = (~support.y.isnan()).sum((-2, -1))
    assert support.y.shape == (BLOCK, 2, 2, 6, 1)
    assert sizes.unique().tolist() == [2, 3, 4, 5, 6]
    assert (support.x.amax(-2) - support.x.amin(-2)).min() < 2
    assert query.y.shape == (BLOCK, 2, 2, 50, 1) and query.y.isfinite().all()


@every_process
def test_the_least_size_of_a_support_set_must_not_exceed_the_largest(name):
    algorithm, h, _ = problem(name, least_shots=8, shots=5)
    with pytest.raises(ValueError, match="least_shots must not exceed shots, got 8 and 5"):
        algorithm.cost(h, TASKS)


# Training.


@every_one
def test_a_run_trains_to_the_same_bits_alone_and_among_others(name, each_engine):
    subject = Subject(name, tasks=TASKS).changed(shots=9, least_shots=2, least_width=0.4)
    settings = subject.settings(30, interval=30)
    together = training.train(settings, (4, 0, 9), subject.algorithm).theta
    for run, seed in enumerate((4, 0, 9)):
        alone = training.train(settings, (seed,), subject.algorithm).theta
        assert torch.equal(alone[0], together[run])


@every_process
def test_training_makes_the_observed_labels_likelier(name):
    subject = Subject(name, tasks=TASKS).changed(
        meta_optimizer="adam", meta_step_size=0.003, meta_batch_size=8
    )
    support, query = subject.batch(iteration=500)
    trained = subject.train(200, interval=200).theta
    losses = []
    for theta in (subject.begin(), trained):
        copies = theta[:, None].expand(-1, 8, -1)
        question = Question(support.repeated(1), query.x)
        mean, variance = subject.algorithm.adaptation.distribution(
            subject.network, copies, question, subject.h
        )
        losses.append(-Normal(mean, variance.sqrt()).log_prob(query.y).mean())
    assert losses[1] < losses[0] - 0.5


# The transformer.


def test_a_transformer_whose_heads_lead_nowhere_does_not_adapt():
    model = Transformer(Network((1, 8, 8, 2)), blocks=2, heads=2)
    theta, (support, x) = model.begin((0,))[0], (support_of(5), TASKS.grid)
    visible = torch.ones(1, 5, dtype=torch.bool)
    free = model.given(theta, support, x, visible)
    pieces = list(theta.split([part.parameters for part in model.parts]))
    for combination in (3, 7):  # the third network of each block, after that of the embedding
        pieces[combination] = torch.zeros_like(pieces[combination])
    blind = torch.cat(pieces)
    found = [model.given(blind, support, x, sight) for sight in (visible, ~visible)]
    torch.testing.assert_close(found[0], found[1], **EXACT)
    assert not torch.allclose(free, model.given(theta, support, x, ~visible), **EXACT)


def test_heads_that_do_not_divide_the_width_have_equal_widths():
    parts = Transformer(Network((1, 6, 2)), blocks=1, heads=4).parts
    assert [part.widths for part in parts] == [
        (2, 6),
        (6, 8),
        (6, 16),
        (8, 6),
        (6, 12, 6),
        (6, 6, 2),
    ]
