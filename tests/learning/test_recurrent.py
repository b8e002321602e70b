"""Algorithms that read the support set point by point: the LSTM and MMAML."""

import pytest
import torch
from recurrences import everything_of, random_inputs

from metabench.check_algorithm.subject import Subject
from metabench.learning import engine, training
from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Question
from metabench.learning.algorithms import lstm, maml, mmaml
from metabench.learning.engine import lstm as engine_lstm
from metabench.learning.network import Network
from metabench.learning.recurrent import LSTM
from metabench.learning.settings import NetworkSettings
from metabench.learning.tasks import Bank, PlaneWaveDistribution, Points, SineDistribution

TASKS = SineDistribution(noise=0.3)
NETWORK = Network((1, 8, 6, 1))
EXACT = {"rtol": 1e-10, "atol": 1e-12}
SEEDS = (4, 0, 9)

needs_kernel = pytest.mark.skipif(engine.library() is None, reason="no kernel was compiled here")
every_one = pytest.mark.parametrize("name", ["lstm", "mmaml"])
MODULES = {"lstm": lstm, "mmaml": mmaml}


def problem(name):
    """An algorithm, its hyperparameters, and a theta with nothing special, ``(M,)``."""
    h = Subject(name).changed(units=3).h
    theta = MODULES[name].begin(NETWORK, (0,), h)[0]
    noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(0), dtype=theta.dtype)
    return MODULES[name], h, theta + 0.1 * noise


def support_of(shots):
    return Bank(0, "test-bank", TASKS, 1).support(shots, (-5.0, 5.0)).at(0)


def predicted(name, support, x=TASKS.grid, updates=2, only=None):
    module, h, theta = problem(name)
    question = Question(support.repeated(updates), x, only=only)
    return module.predictions(NETWORK, theta, question, h)


def turned(points):
    return Points(points.x.flip(-2), points.y.flip(-2))


# The LSTM.


def torch_lstm(theta, units, features):
    """torch's own LSTM with the weights of ours."""
    network = Network((features, 1))
    of_points, of_hidden = theta.split([part.parameters for part in LSTM(network, units).parts])
    found = torch.nn.LSTM(features + 1, units, dtype=theta.dtype)
    (weight, bias), (recurrent, other) = (
        (values[: -4 * units].view(-1, 4 * units), values[-4 * units :])
        for values in (of_points, of_hidden)
    )
    with torch.no_grad():
        found.weight_ih_l0.copy_(weight.T)
        found.bias_ih_l0.copy_(bias)
        found.weight_hh_l0.copy_(recurrent.T)
        found.bias_hh_l0.copy_(other)
    return found


@pytest.mark.parametrize("features", [1, 2])
def test_the_lstm_is_that_of_torch(features, each_engine):
    ours, generator = LSTM(Network((features, 1)), 5), torch.Generator().manual_seed(0)
    theta = torch.randn(2, ours.parameters, generator=generator, dtype=torch.float64)
    x, y, at = (
        torch.randn(2, 4, n, width, generator=generator, dtype=torch.float64)
        for n, width in ((6, features), (6, 1), (3, features))
    )
    state = ours.read(theta, Points(x, y))
    features_found = ours.features(theta, state, at)
    for run in range(2):
        theirs = torch_lstm(theta[run], 5, features)
        _, (hidden, cell) = theirs(torch.cat([x[run], y[run]], -1).transpose(0, 1))
        torch.testing.assert_close(state.hidden[run], hidden[0].detach(), **EXACT)
        torch.testing.assert_close(state.cell[run], cell[0].detach(), **EXACT)
        for point in range(3):
            unlabelled = torch.cat([at[run, :, point], torch.zeros(4, 1)], -1)[None]
            (after,), _ = theirs(unlabelled, (hidden, cell))
            torch.testing.assert_close(features_found[run, :, point], after.detach(), **EXACT)


def test_points_that_are_left_out_might_as_well_not_be_there(each_engine):
    ours, generator = LSTM(Network((1, 1)), 5), torch.Generator().manual_seed(1)
    theta = torch.randn(ours.parameters, generator=generator, dtype=torch.float64)
    points = Points(*torch.randn(2, 1, 6, 1, generator=generator, dtype=torch.float64))
    known = torch.tensor([True, False, True, True, False, False])[None, :, None]
    kept = Points(*(part[:, known[0, :, 0]] for part in points))
    found, expected = ours.read(theta, points, known), ours.read(theta, kept)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("units", [5, 40])
@pytest.mark.parametrize("all_are_read", [True, False])
def test_the_way_back_of_the_lstm_is_its_slope(units, all_are_read, each_engine):
    ours, generator = LSTM(Network((2, 1)), units), torch.Generator().manual_seed(0)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    theta = (numbers(2, ours.parameters) / 2).requires_grad_()
    points, x = Points(numbers(2, 3, 4, 2), numbers(2, 3, 4, 1)), numbers(2, 3, 5, 2)
    known = None if all_are_read else torch.rand(2, 3, 4, 1, generator=generator) < 0.7

    def of_both(theta):
        state = ours.read(theta, points, known)
        return *state, ours.features(theta, state, x)

    assert torch.autograd.gradcheck(of_both, theta, fast_mode=True)


@needs_kernel
@pytest.mark.parametrize("units", [5, 32, 40])
@pytest.mark.parametrize(("dtype", "far"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_both_engines_read_the_same(units, dtype, far, choose_engine):
    given = random_inputs(1, units, dtype)
    choose_engine("fused")
    found = everything_of(*given)
    choose_engine("torch")
    for a, b in zip(found, everything_of(*given), strict=True):
        torch.testing.assert_close(a, b, rtol=far, atol=far * b.abs().max().item())


@pytest.mark.parametrize("units", [5, 40])
def test_a_diverged_run_leaves_its_neighbours_as_they_are(units, each_engine):
    (gates, weight), known, last = random_inputs(2, units, torch.float32, stack=3)
    expected = everything_of((gates, weight), known, last)
    for part in (gates, weight, *last):
        part[0] = torch.nan
    for a, b in zip(everything_of((gates, weight), known, last), expected, strict=True):
        assert torch.equal(a[1:], b[1:])  # the first run, or the first sequence of points


@needs_kernel
def test_the_kernel_refuses_what_it_would_misread(choose_engine):
    choose_engine("fused")
    (gates, weight), known, (of_points, base, cell) = random_inputs(3, 8)
    with pytest.raises(ValueError, match="gates must be contiguous, got the strides"):
        engine_lstm.read(gates[:, :, ::2], weight, None)
    with pytest.raises(TypeError, match=r"weight must be torch.float64, got torch.float32"):
        engine_lstm.read(gates, weight.float(), None)
    with pytest.raises(ValueError, match=r"known must have the shape \(2, 3, 4\), got \(2, 1, 4\)"):
        engine_lstm.read(gates, weight, known[:, :1])
    with pytest.raises(ValueError, match=r"base must have the shape \(6, 32\), got \(5, 32\)"):
        engine_lstm.last(of_points, base[1:], cell)


def test_sequences_may_share_points_and_what_is_known_of_them(each_engine):
    ours, generator = LSTM(Network((1, 1)), 5), torch.Generator().manual_seed(4)
    theta = torch.randn(2, ours.parameters, generator=generator, dtype=torch.float64)
    points = Points(*torch.randn(2, 2, 3, 6, 1, generator=generator, dtype=torch.float64))
    x = torch.randn(1, 4, 1, generator=generator, dtype=torch.float64)
    known = torch.tensor([True, False, True, True, False, True])[None, :, None]
    state = ours.read(theta, points, known)
    whole = ours.read(theta, points, known.expand(2, 3, 6, 1))
    assert torch.equal(state.hidden, whole.hidden) and torch.equal(state.cell, whole.cell)
    found = ours.features(theta, state, x)
    assert torch.equal(found, ours.features(theta, state, x.expand(2, 3, 4, 1)))


def test_a_sum_of_features_has_a_gradient_and_no_second_one(each_engine):
    ours, generator = LSTM(Network((1, 1)), 5), torch.Generator().manual_seed(5)
    theta = torch.randn(ours.parameters, generator=generator, dtype=torch.float64)
    points = Points(*torch.randn(2, 1, 6, 1, generator=generator, dtype=torch.float64))
    watched = theta.requires_grad_()
    total = ours.features(watched, ours.read(watched, points), points.x).sum()
    (slope,) = torch.autograd.grad(total, watched, create_graph=True)
    assert slope.abs().sum() > 0
    with pytest.raises(RuntimeError, match=r"does not require grad|once_differentiable"):
        slope.sum().backward()


def test_the_numbers_of_a_point_that_is_left_out_do_not_matter(each_engine):
    (gates, weight), known, last = random_inputs(6, 5)
    expected = everything_of((gates, weight), known, last)
    without = gates.masked_fill(~known[..., None], torch.nan)
    for a, b in zip(everything_of((without, weight), known, last), expected, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_gates_have_the_same_bits_wherever_a_number_is_in_a_tensor(each_engine):
    z = 3 * torch.randn(9, 5, 12, generator=torch.Generator().manual_seed(2))
    base, cell = torch.zeros(9, 12), torch.linspace(-1, 1, 27).view(9, 3)
    together, _ = engine_lstm.last(z.clone(), base, cell)
    i, f, g, o = z.unflatten(-1, (4, 3)).unbind(-2)
    after = torch.sigmoid(f) * cell[:, None] + torch.sigmoid(i) * torch.tanh(g)
    expected = torch.sigmoid(o) * torch.tanh(after)
    torch.testing.assert_close(together, expected)
    for n in range(9):
        alone, _ = engine_lstm.last(z[n : n + 1].clone(), base[:1], cell[n : n + 1])
        assert torch.equal(alone[0], together[n])


# Both of them.


@every_one
def test_the_order_of_points_matters(name):
    support = support_of(7)
    found, other = predicted(name, support), predicted(name, turned(support))
    assert (found[-1] - other[-1]).abs().max() > 1e-3


@every_one
def test_before_the_first_update_no_support_point_is_read(name):
    found = [predicted(name, support_of(shots)) for shots in (5, 9)]
    torch.testing.assert_close(found[0][0], found[1][0], **EXACT)
    assert not torch.allclose(found[0][1], found[1][1], **EXACT)


@every_one
def test_a_query_point_does_not_see_other_query_points(name):
    x = TASKS.grid.clone()
    before = predicted(name, support_of(5), x)
    x[20:] += 1
    after = predicted(name, support_of(5), x)
    torch.testing.assert_close(after[:, :20], before[:, :20], **EXACT)
    assert not torch.allclose(after[:, 20:], before[:, 20:], **EXACT)


@every_one
@pytest.mark.parametrize("units", [3, 16])
@pytest.mark.parametrize("tasks", [TASKS, PlaneWaveDistribution(grid_points=7)], ids=["1", "2"])
def test_a_run_trains_to_the_same_bits_alone_and_among_others(name, units, tasks, each_engine):
    subject = Subject(name, NetworkSettings(hidden=(9, 7)), tasks)
    subject = subject.changed(shots=9, least_shots=2, units=units)
    settings = subject.settings(20, interval=20)
    together = training.train(settings, SEEDS, subject.algorithm).theta
    for run, seed in enumerate(SEEDS):
        alone = training.train(settings, (seed,), subject.algorithm).theta
        assert torch.equal(alone[0], together[run])


def test_support_sets_of_the_lstm_vary_in_size_and_their_missing_points_are_not_read():
    module, h, theta = problem("lstm")
    tasks = Bank(0, "test-bank", TASKS, 2)
    query, whole = tasks.query(), tasks.support(7, (-5.0, 5.0))
    query = Points(query.x, query.y[None])
    fewer = Points(whole.x[None, :, :4], whole.y[None, :, :4])
    masked = Points(whole.x[None], whole.y[None].clone())
    masked.y[:, :, 4:] = torch.nan
    found, expected, other = (
        module.meta_gradient(NETWORK, theta[None], (support, query), h)
        for support in (masked, fewer, Points(whole.x[None], whole.y[None]))
    )
    torch.testing.assert_close(found, expected, **EXACT)
    assert not torch.allclose(found, other, **EXACT)


def test_of_the_network_the_lstm_has_inputs_and_outputs_alone():
    _, h, _ = problem("lstm")
    wide = Network((1, 40, 30, 20, 1), "relu")
    assert torch.equal(lstm.begin(wide, SEEDS, h), lstm.begin(NETWORK, SEEDS, h))


# MMAML.


def without_modulation(theta, h):
    """Learned vectors whose head says nothing."""
    found = theta.clone()
    found[..., -mmaml._encoder(NETWORK, h)[1].parameters :] = 0
    return found


def test_mmaml_whose_head_says_nothing_is_maml():
    subject = Subject("mmaml", NetworkSettings(hidden=(8, 6)), TASKS)
    h, batch = subject.h, subject.batch(dtype=torch.float64)
    of_maml = maml.Hyperparameters.model_validate(h.model_dump(exclude={"units"}))
    learned = without_modulation(subject.begin(dtype=torch.float64), h)
    shared = learned[:, : NETWORK.parameters]
    found = mmaml.meta_gradient(NETWORK, learned, batch, h)[:, : NETWORK.parameters]
    torch.testing.assert_close(found, maml.meta_gradient(NETWORK, shared, batch, of_maml), **EXACT)

    copies, question = one_copy_per_task(learned, 3), Question(batch[0].repeated(4), TASKS.grid)
    own = mmaml.predictions(NETWORK, copies, question, h)
    plain = maml.ALGORITHM.adaptation.predict(
        NETWORK, copies[..., : NETWORK.parameters], question, of_maml
    )
    torch.testing.assert_close(own, plain, **EXACT)


def test_mmaml_is_not_maml_once_its_head_says_something():
    """Neither before a step nor in its steps: sizes have the squares of the scales."""
    _, h, theta = problem("mmaml")
    support = support_of(5)
    start, squares = (
        part.squeeze(-2)
        for part in mmaml._modulated(NETWORK, theta, Points(*(p[None] for p in support)), h)
    )
    shared = theta[: NETWORK.parameters]
    hidden = sum(NETWORK.layer_sizes[:-1])
    assert (start[:hidden] != shared[:hidden]).all() and (squares[:hidden] != 1).all()
    assert torch.equal(start[hidden:], shared[hidden:]) and (squares[hidden:] == 1).all()


@pytest.mark.parametrize("step_size", [None, 0.03])
def test_mmaml_descends_in_theta_while_the_modulation_stays(step_size):
    """The literal algorithm: autograd for theta, through a forward pass with FiLM layers."""
    _, h, theta = problem("mmaml")
    support = support_of(5)
    size = None if step_size is None else torch.tensor(step_size, dtype=torch.float64)
    found = mmaml.predictions(NETWORK, theta, Question(support.repeated(3), TASKS.grid, size), h)
    layers, modulation = film(theta, support, h)
    for update in range(1, 4):
        loss = (forward(layers, modulation, support.x) - support.y).square().mean()
        flat = [part for layer in layers for part in layer]
        slopes = torch.autograd.grad(loss, flat)
        alpha = step_size or h.inner_step_size
        flat = [
            (p - alpha * g).detach().requires_grad_() for p, g in zip(flat, slopes, strict=True)
        ]
        layers = list(zip(flat[::2], flat[1::2], strict=True))
        expected = forward(layers, modulation, TASKS.grid)
        torch.testing.assert_close(found[update], expected.detach(), **EXACT)


def film(theta, support, h):
    """The layers of the shared network, and scale and shift of each hidden layer."""
    recurrent, weights = (NETWORK.parameters, mmaml._encoder(NETWORK, h)[1].parameters)
    both = theta[recurrent:-weights].chunk(2)
    pairs = torch.cat(support, -1)
    forwards, backwards = (
        torch_lstm(own, h.units, 1)(given[:, None])[1][0][0, 0]
        for own, given in zip(both, (pairs, pairs.flip(0)), strict=True)
    )
    units = sum(NETWORK.widths[1:-1])
    head, bias = theta[-weights : -2 * units].view(-1, 2 * units), theta[-2 * units :]
    scales, shifts = (torch.cat([forwards, backwards]) @ head + bias).detach().chunk(2)
    split = (part.split(NETWORK.widths[1:-1]) for part in (1 + scales, shifts))
    layers = NETWORK.layers(theta[: NETWORK.parameters])
    return [[p.clone().requires_grad_() for p in layer] for layer in layers], list(
        zip(*split, strict=True)
    )


def forward(layers, modulation, x):
    """The outputs of a network with FiLM in its hidden layers."""
    for (weight, bias), (scale, shift) in zip(layers[:-1], modulation, strict=True):
        x = torch.tanh(scale * (x @ weight + bias) + shift)
    weight, bias = layers[-1]
    return x @ weight + bias


def test_mmaml_begins_with_the_initial_weights_of_maml_and_lstms_that_differ():
    _, h, _ = problem("mmaml")
    learned = mmaml.begin(NETWORK, SEEDS, h)
    assert torch.equal(
        learned[:, : NETWORK.parameters],
        torch.stack([NETWORK.initialize(seed) for seed in SEEDS]),
    )
    weights = mmaml._encoder(NETWORK, h)[1].parameters
    forwards, backwards = learned[:, NETWORK.parameters : -weights].chunk(2, dim=-1)
    assert (forwards != backwards).all()
