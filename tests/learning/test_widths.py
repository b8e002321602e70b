"""Inputs of any width: results for one feature of x also hold for two and three."""

from dataclasses import dataclass
from itertools import pairwise
from math import isqrt, sqrt
from typing import Literal

import numpy as np
import pytest
import small
import torch
from torch import Tensor

from metabench.learning import algorithms, settings
from metabench.learning.algorithm import Question
from metabench.learning.algorithms import NAMES, cavia, neural_process
from metabench.learning.baselines import evaluate as evaluate_baselines
from metabench.learning.baselines import names, processes, zero
from metabench.learning.evaluation import evaluate
from metabench.learning.held_out import held_out, picture_x, regions
from metabench.learning.network import Network
from metabench.learning.tasks import (
    Bank,
    PlaneWaveDistribution,
    Points,
    SineDistribution,
    TaskDistribution,
    TaskStream,
    lattice,
)
from metabench.learning.training import train
from metabench.records import arrays, states

HIDDEN = {"hidden": [8, 8]}
SEEDS = (3, 0, 5)
PLANE = PlaneWaveDistribution(grid_points=8)
every_algorithm = pytest.mark.parametrize("algorithm", NAMES)


@dataclass(frozen=True)
class Ramp:
    """Tasks of a family that exists here alone: y is the sum of x, times a slope."""

    slope: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x.sum(-1, keepdim=True) * self.slope[..., None, None]


class RampDistribution(TaskDistribution):
    """Ramps over three inputs."""

    family: Literal["ramp"] = "ramp"
    grid_points: int = 4
    features_: int = 3

    @property
    def features(self):
        return self.features_

    @property
    def width(self):
        return 1

    def draw(self, unit):
        return Ramp(unit[..., 0])

    def one(self, *, slope: float = 1.0):
        return Ramp(torch.tensor(slope, dtype=torch.float64))


def distribution(features):
    """A family of so many inputs."""
    known = {1: SineDistribution(), 2: PLANE}
    return known.get(features) or RampDistribution(features_=features)


def on(tasks, given):
    """Settings for other tasks; those of a family that no study can name are not checked."""
    return given.model_copy(update={"tasks": tasks})


def train_settings(algorithm, iterations=4, tasks=PLANE):
    return on(tasks, small.train_settings(algorithm, iterations, network=HIDDEN))


def trained(algorithm, seeds, **more):
    return train(train_settings(algorithm, **more), seeds, algorithms.load(algorithm))


# Training and evaluation.


@every_algorithm
def test_every_algorithm_trains_on_two_inputs(algorithm):
    iterations = 0 if algorithm == "random" else 4
    before = trained(algorithm, SEEDS, iterations=0)
    after = trained(algorithm, SEEDS, iterations=iterations)
    assert after.theta.isfinite().all() and after.validation_loss.isfinite().all()
    assert torch.equal(before.theta, after.theta) == (algorithm == "random")


@every_algorithm
def test_a_run_on_two_inputs_does_not_notice_its_neighbours(algorithm, each_engine):
    iterations = 0 if algorithm == "random" else 4
    stack = trained(algorithm, SEEDS, iterations=iterations)
    for run, seed in enumerate(SEEDS):
        alone = trained(algorithm, (seed,), iterations=iterations)
        assert torch.equal(alone.theta[0], stack.theta[run])
        assert torch.equal(alone.validation_loss[:, 0], stack.validation_loss[:, run])


PROTOCOLS = {
    "square": settings.EvaluatedProtocol(shots=5, support=(0.0, 5.0), updates=3),
    "whole": settings.EvaluatedProtocol(shots=4, support=(-5.0, 5.0), updates=2),
    "fresh": settings.EvaluatedProtocol(shots=4, support=(0.0, 5.0), updates=2, queries=9),
}


def evaluate_settings(algorithm, tasks=PLANE, showcase=None):
    given = small.evaluate_settings(algorithm, protocols=PROTOCOLS, network=HIDDEN)
    return on(tasks, given.model_copy(update={"showcase": showcase or given.showcase}))


@every_algorithm
def test_every_algorithm_is_evaluated_on_two_inputs(algorithm):
    given, value = evaluate_settings(algorithm), algorithms.load(algorithm)
    theta = trained(algorithm, SEEDS, iterations=0).theta
    found = evaluate(given, theta, value)
    assert all(tensor.isfinite().all() for name, tensor in found.items() if "step" not in name)
    arrays.hold("here", states.from_tensors(found), arrays.evaluation(given, len(SEEDS)))
    for name in ("square", "whole"):
        before, *_, after = found[f"test/{name}/{value.adaptation.steps[0]}"][0]
        assert not torch.equal(before, after), "it adapts"


@every_algorithm
def test_a_run_is_evaluated_on_two_inputs_as_it_is_alone(algorithm, each_engine):
    given, value = evaluate_settings(algorithm), algorithms.load(algorithm)
    theta = trained(algorithm, SEEDS, iterations=0).theta
    declared = arrays.evaluation(given, 1)
    alone = [states.from_tensors(evaluate(given, theta[run : run + 1], value)) for run in range(3)]
    joined = arrays.join(alone, declared)
    for name, array in states.from_tensors(evaluate(given, theta, value)).items():
        assert array.tobytes() == joined[name].tobytes(), name


@pytest.mark.parametrize("algorithm", ["fomaml", "reptile", "cavia", "neural_process"])
def test_three_inputs_do_as_well_as_two(algorithm):
    tasks, value = RampDistribution(), algorithms.load(algorithm)
    state = trained(algorithm, SEEDS, tasks=tasks)
    assert state.theta.isfinite().all() and state.validation_loss.isfinite().all()
    given = evaluate_settings(algorithm, tasks, {"slope": 2.0})
    found = evaluate(given, state.theta, value)
    assert found["test/square/own"].isfinite().all()
    assert found["showcase/square"].shape[-1] == len(picture_x(tasks)) > 1000
    protocol = settings.BaselineProtocol(
        shots=5, support=(0.0, 5.0), updates=1, gaussian_process_length_scale=2.0
    )
    known = small.baseline_settings({"square": protocol}, showcase={"slope": 2.0})
    assert all(tensor.isfinite().all() for tensor in evaluate_baselines(on(tasks, known)).values())


# Gradients.


def loss(network, theta, points):
    """The mean squared error of one network, written with matrix products for autograd."""
    return (forward(network, theta, points.x)[-1] - points.y).square().mean()


def forward(network, theta, x):
    """The activations of each layer."""
    found = [x]
    for weight, bias in network.layers(theta):
        h = found[-1] if len(found) == 1 else torch.tanh(found[-1])
        found.append(h @ weight + bias)
    return found


def slope(of, at, through):
    """The gradient of a loss; it is itself a function of `at` where one differentiates through."""
    (found,) = torch.autograd.grad(of, at, create_graph=through)
    return found


def adapted(network, phi, batches, alphas, through=True):
    """Parameters after each step."""
    for points, alpha in zip(batches, alphas, strict=True):
        phi = phi - alpha * slope(loss(network, phi, points), phi, through)
        yield phi


def of_maml(network, theta, support, query, h):
    steps = [support] * h.inner_steps
    *_, phi = adapted(network, theta, steps, [h.inner_step_size] * len(steps))
    return loss(network, phi, query)


def of_fomaml(network, theta, support, query, h):
    steps = [support] * h.inner_steps
    *_, phi = adapted(network, theta, steps, [h.inner_step_size] * len(steps), through=False)
    return loss(network, phi, query)


def of_anil(network, theta, support, query, h):
    alpha = torch.zeros_like(theta)
    alpha[-(network.widths[-2] + 1) :] = h.inner_step_size
    *_, phi = adapted(network, theta, [support] * h.inner_steps, [alpha] * h.inner_steps)
    return loss(network, phi, query)


def of_meta_sgd(network, theta, support, query, h):
    theta, alpha = theta.chunk(2)
    *_, phi = adapted(network, theta, [support] * h.inner_steps, [alpha] * h.inner_steps)
    return loss(network, phi, query)


def of_meta_curvature(network, theta, support, query, h):
    """A Kronecker product of each layer's two maps multiplies its gradient, row by row."""
    phi, *maps = theta.split(
        [
            network.parameters,
            *(size**2 for n, m in pairwise(network.widths) for size in (n + 1, m)),
        ]
    )
    squares = [part.unflatten(0, (isqrt(len(part)), -1)) for part in maps]
    layers = [
        torch.kron(a, b.mT.contiguous()) for a, b in zip(squares[::2], squares[1::2], strict=True)
    ]
    for _ in range(h.inner_steps):
        gradient = slope(loss(network, phi, support), phi, True)
        phi = phi - h.inner_step_size * torch.block_diag(*layers) @ gradient
    return loss(network, phi, query)


def of_t_net(network, theta, support, query, h):
    """A matrix follows each layer; weights and biases take the steps."""
    outputs = network.widths[1:]
    phi, *matrices = theta.split([network.parameters, *(n**2 for n in outputs)])

    def of(phi, points):
        z = points.x
        for n, (weight, bias) in enumerate(network.layers(phi)):
            before = torch.tanh(z) if n else z
            z = (before @ weight + bias) @ matrices[n].view(outputs[n], -1)
        return (z - points.y).square().mean()

    for _ in range(h.inner_steps):
        phi = phi - h.inner_step_size * slope(of(phi, support), phi, True)
    return of(phi, query)


def of_maml_plus_plus(network, theta, support, query, h):
    alpha = theta[network.parameters :].unflatten(0, (h.inner_steps, -1))
    sizes = torch.tensor(network.layer_sizes)
    each = [row.repeat_interleave(sizes) for row in alpha]
    steps = adapted(network, theta[: network.parameters], [support] * h.inner_steps, each)
    return torch.stack([loss(network, phi, query) for phi in steps]).mean()


def of_cavia(network, theta, support, query, h):
    """The context is a part of the input: W_c are further rows of the first weights."""
    features, width = network.widths[:2]
    wide = Network((features + h.context, *network.widths[1:]))
    rows = features * width
    weights = torch.cat(
        [theta[:rows], theta[network.parameters :], theta[rows : network.parameters]]
    )
    context = theta.new_zeros(h.context).requires_grad_()

    def of(context, points):
        beside = context.expand(*points.y.shape[:-1], -1)
        return loss(wide, weights, points._replace(x=torch.cat([points.x, beside], -1)))

    for _ in range(h.inner_steps):
        context = context - h.inner_step_size * slope(of(context, support), context, True)
    return of(context, query)


def of_ridge(network, theta, support, query, h):
    theta, scale = theta[:-1], theta[-1].exp()
    (*_, at_support, y), (*_, at_query, prediction) = (
        forward(network, theta, points.x) for points in (support, query)
    )
    at_support, at_query = torch.tanh(at_support), torch.tanh(at_query)
    kernel = at_support @ at_support.mT + scale * torch.eye(len(y), dtype=theta.dtype)
    update = at_query @ at_support.mT @ torch.linalg.solve(kernel, support.y - y)
    return (prediction + update - query.y).square().mean()


def of_neural_process(network, theta, support, query, h):
    encoder = Network((network.widths[0] + 1, *network.widths[1:-1], h.context))
    decoder = Network((network.widths[0] + h.context, *network.widths[1:]))
    x, width = network.widths[:2]
    of_x, rest, of_r = theta[encoder.parameters :].tensor_split(
        [x * width, network.parameters], dim=-1
    )
    decoding = torch.cat([of_x, of_r, rest])
    pairs = torch.cat([support.x, support.y], -1)
    encoded = forward(encoder, theta[: encoder.parameters], pairs)[-1].mean(0)
    inputs = torch.cat([query.x, encoded.expand(len(query.x), -1)], -1)
    prediction = forward(decoder, decoding, inputs)[-1]
    return (prediction - query.y).square().mean()


def surprise(outputs, y):
    """The negative log likelihood of labels under the two outputs for each."""
    mean, z = outputs.unbind(-1)
    deviation = 0.1 + 0.9 * torch.nn.functional.softplus(z)
    return -torch.distributions.Normal(mean, deviation).log_prob(y[:, 0]).mean()


def observed(support):
    """The points of a support set, of which those with the label nan are no part."""
    return Points(*(part[~support.y[:, 0].isnan()] for part in support))


def of_conditional_neural_process(network, theta, support, query, h):
    support, (*inputs, _) = observed(support), network.widths
    encoder = Network((inputs[0] + 1, *inputs[1:], h.context))
    decoder = Network((inputs[0] + h.context, *inputs[1:], 2))
    rows = [inputs[0] * inputs[1], h.context * inputs[1]]
    encoding, decoding = theta.split([encoder.parameters, decoder.parameters])
    of_x, rest, of_r = decoding.tensor_split([rows[0], len(decoding) - rows[1]])
    encoded = forward(encoder, encoding, torch.cat(support, -1))[-1].mean(0)
    r = encoded.expand(len(query.x), -1)
    outputs = forward(decoder, torch.cat([of_x, of_r, rest]), torch.cat([query.x, r], -1))[-1]
    return surprise(outputs, query.y)


def transformed(network, theta, pairs, places, before, h):
    """The outputs at places, each of which sees as many of the first pairs as `before` says."""
    x, *hidden, outputs = network.widths
    width, rest = hidden[-1], theta

    def part(*widths):
        nonlocal rest
        network = Network(widths)
        mine, rest = rest.split([network.parameters, len(rest) - network.parameters])
        return network, mine

    def attention(queries, keys, combination):
        """torch's own, with the weights of three networks."""
        layer = torch.nn.MultiheadAttention(width, h.heads, dtype=theta.dtype, add_zero_attn=True)
        of_q, of_kv, of_z = (n.layers(v)[0] for n, v in (queries, keys, combination))
        weights = {
            "in_proj_weight": torch.cat([of_q[0], of_kv[0]], -1).T,
            "in_proj_bias": torch.cat([of_q[1], of_kv[1]], -1)[0],
            "out_proj.weight": of_z[0].T,
            "out_proj.bias": of_z[1][0],
        }
        return lambda *z: torch.func.functional_call(layer, weights, z, {"attn_mask": hides})[0]

    def norm(z):
        return torch.nn.functional.layer_norm(z, (width,))

    unlabelled = torch.cat([places, torch.zeros_like(places[:, :1])], -1)
    hides = torch.arange(len(pairs)) >= before[:, None]
    z = forward(*part(x + 1, *hidden), torch.cat([pairs, unlabelled]))[-1]
    for _ in range(h.blocks):
        maps = [part(width, width), part(width, 2 * width), part(width, width)]
        seen = norm(z)[: len(pairs)]
        z = z + attention(*maps)(norm(z), seen, seen)
        z = z + forward(*part(width, 2 * width, width), norm(z))[-1]
    found = forward(*part(width, width, outputs), norm(z))[-1]
    assert not len(rest), "and these are all weights"
    return found[len(pairs) :]


def of_transformer_neural_process(network, theta, support, query, h):
    pairs = torch.cat(observed(support), -1)
    before = torch.full((len(pairs) + len(query.x),), len(pairs))
    two_outputs = Network((*network.widths[:-1], 2))
    return surprise(transformed(two_outputs, theta, pairs, query.x, before, h), query.y)


def torch_lstm(theta, width, units, directions):
    """torch's own LSTM for pairs of this width, which reads in one direction or both."""
    parts = theta.chunk(directions)
    layer = torch.nn.LSTM(width, units, dtype=theta.dtype, bidirectional=directions > 1)
    weights = {}
    for part, suffix in zip(parts, ("", "_reverse"), strict=False):
        sizes = [4 * units * n for n in (width, 1, units, 1)]
        of_pairs, bias, of_state, other = part.split(sizes)
        weights |= {
            f"weight_ih_l0{suffix}": of_pairs.view(width, -1).T,
            f"bias_ih_l0{suffix}": bias,
            f"weight_hh_l0{suffix}": of_state.view(units, -1).T,
            f"bias_hh_l0{suffix}": other,
        }
    return lambda *given: torch.func.functional_call(layer, weights, given)


def of_lstm(network, theta, support, query, h):
    """Each query point is the last of a sequence of its own."""
    head = Network((h.units, network.widths[-1]))
    recurrent, weights = theta.split([len(theta) - head.parameters, head.parameters])
    unlabelled = torch.cat([query.x, torch.zeros_like(query.x[:, :1])], -1)
    pairs = torch.cat(observed(support), -1)
    sequences = torch.cat([pairs.expand(len(unlabelled), -1, -1), unlabelled[:, None]], 1)
    outputs, _ = torch_lstm(recurrent, pairs.shape[-1], h.units, 1)(sequences.transpose(0, 1))
    return (forward(head, weights, outputs[-1])[-1] - query.y).square().mean()


def of_mmaml(network, theta, support, query, h):
    """MAML of a network with FiLM layers, which inner steps leave as they are."""
    hidden = sum(network.widths[1:-1])
    head = Network((2 * h.units, 2 * hidden))
    phi, recurrent, weights = theta.split(
        [network.parameters, len(theta) - network.parameters - head.parameters, head.parameters]
    )
    pairs = torch.cat(support, -1)
    _, (last, _) = torch_lstm(recurrent, pairs.shape[-1], h.units, 2)(pairs[:, None])
    scale, shift = forward(head, weights, last.flatten()[None])[-1][0].split(hidden)
    films = [part.split(network.widths[1:-1]) for part in (1 + scale, shift)]

    def of(phi, points):
        x = points.x
        *layers, (weight, bias) = network.layers(phi)
        for (inner, offset), gamma, beta in zip(layers, *films, strict=True):
            x = torch.tanh(gamma * (x @ inner + offset) + beta)
        return (x @ weight + bias - points.y).square().mean()

    for _ in range(h.inner_steps):
        phi = phi - h.inner_step_size * slope(of(phi, support), phi, True)
    return of(phi, query)


def of_in_context_transformer(network, theta, points, h):
    """The mean loss of predicting each point from the earlier ones, one prediction at a time."""
    losses = []
    for n in range(h.shots):
        pairs = torch.cat([points.x, points.y], -1)[:n]
        before = torch.arange(1, n + 2).clamp(max=n)  # a pair sees itself, too
        (predicted,) = transformed(network, theta, pairs, points.x[n : n + 1], before, h)
        losses.append((predicted - points.y[n]).square())
    return torch.stack(losses).mean()


OBJECTIVES = {
    "anil": of_anil,
    "cavia": of_cavia,
    "conditional_neural_process": of_conditional_neural_process,
    "fomaml": of_fomaml,
    "lstm": of_lstm,
    "maml": of_maml,
    "maml_plus_plus": of_maml_plus_plus,
    "meta_curvature": of_meta_curvature,
    "meta_sgd": of_meta_sgd,
    "mmaml": of_mmaml,
    "neural_process": of_neural_process,
    "ridge": of_ridge,
    "t_net": of_t_net,
    "transformer_neural_process": of_transformer_neural_process,
}


def batch_of(algorithm, h, tasks):
    """The data of the first meta-iteration, float64."""
    block = TaskStream(tasks, SEEDS, h.meta_batch_size).block(0)
    return tuple(points.at(0) for points in algorithm.sample(block, h))


def problem(name, features):
    """An algorithm, a network, hyperparameters, a theta with nothing special, and a batch."""
    algorithm = algorithms.load(name)
    h = small.published(name).hyperparameters
    if "inner_step_size" in type(h).model_fields:
        h = h.model_copy(update={"inner_step_size": 0.05})
    network = Network((features, 6, 8, 1))
    initial = algorithm.begin(network, SEEDS, h)
    noise = torch.randn(
        initial.shape, generator=torch.Generator().manual_seed(0), dtype=initial.dtype
    )
    return (
        algorithm,
        network,
        h,
        initial + 0.05 * noise,
        batch_of(algorithm, h, distribution(features)),
    )


EXACT = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize("features", [1, 2, 3])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_meta_gradients_are_those_of_autograd_whatever_the_width_of_x(name, features):
    algorithm, network, h, theta, (support, query) = problem(name, features)
    found = algorithm.meta_gradient(network, theta, (support, query), h)
    x = query.x.expand(*query.y.shape[:-1], features)
    for run in range(len(SEEDS)):
        watched = theta[run].clone().requires_grad_()
        total = 0.0
        for task in range(h.meta_batch_size):
            mine = query._replace(x=x[run, task], y=query.y[run, task])
            total = total + OBJECTIVES[name](network, watched, support.at(run).at(task), mine, h)
        torch.testing.assert_close(found[run], torch.autograd.grad(total, watched)[0], **EXACT)


@pytest.mark.parametrize("features", [1, 2, 3])
@pytest.mark.parametrize("name", ["joint", "reptile", "fomaml_tail"])
def test_directions_without_a_query_set_are_those_of_autograd_too(name, features):
    algorithm, network, h, theta, (points,) = problem(name, features)
    found = algorithm.meta_gradient(network, theta, (points,), h)
    for run in range(len(SEEDS)):
        start = theta[run].clone().requires_grad_()
        if name == "joint":
            expected = slope(loss(network, start, points.at(run)), start, False)
        else:
            batches = [batch.at(run).at(0) for batch in points.unbind()]  # one task
            steps, last = (batches, None) if name == "reptile" else (batches[:-1], batches[-1])
            sizes = [h.inner_step_size] * len(steps)
            *_, phi = adapted(network, start, steps, sizes, through=False)
            expected = theta[run] - phi if last is None else slope(loss(network, phi, last), phi, 0)
        torch.testing.assert_close(found[run], expected.detach(), **EXACT)


@pytest.mark.parametrize("features", [1, 2, 3])
def test_the_gradient_of_a_sequence_is_that_of_one_prediction_at_a_time(features):
    name = "in_context_transformer"
    algorithm, network, h, theta, (points,) = problem(name, features)
    found = algorithm.meta_gradient(network, theta, (points,), h)
    for run in range(len(SEEDS)):
        watched = theta[run].clone().requires_grad_()
        tasks = points.at(run).unbind()
        total = sum(of_in_context_transformer(network, watched, task, h) for task in tasks)
        torch.testing.assert_close(found[run], torch.autograd.grad(total, watched)[0], **EXACT)


# The parts of algorithms that know their inputs.


@pytest.mark.parametrize("features", [1, 2, 3])
def test_the_weights_of_cavias_context_have_the_bound_of_a_layer_of_all_its_inputs(features):
    h = small.published("cavia").hyperparameters
    network = Network((features, 64, 64, 1))
    weight = cavia.begin(network, (0,), h)[0, network.parameters :]
    bound = 1 / sqrt(features + h.context)
    assert len(weight) == h.context * 64
    assert 0.97 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize("features", [1, 2, 3])
def test_a_neural_process_sees_every_number_of_a_support_point_and_of_a_query_point(features):
    h = small.published("neural_process").hyperparameters
    network = Network((features, 8, 8, 1))
    theta = neural_process.begin(network, (0,), h)[0]
    bank = Bank(0, "test-bank", distribution(features), 1)
    support, x = bank.support(5, (-5.0, 5.0)).at(0), bank.query(3).x[0]

    def predicted(support, x):
        question = Question(support.repeated(1), x)
        return neural_process.predictions(network, theta, question, h)[1]

    before = predicted(support, x)
    for n in range(features):
        moved = support._replace(x=support.x.clone())
        moved.x[2, n] += 1
        assert not torch.isclose(predicted(moved, x), before).any()
        other = x.clone()
        other[:, n] += 1
        assert not torch.isclose(predicted(support, other), before).any()


# Tasks, regions and baselines.


def test_the_grid_of_two_inputs_is_every_pair():
    grid = PLANE.grid
    assert grid.shape == (PLANE.grid_size, 2) == (64, 2)
    axis = torch.linspace(-5, 5, 8, dtype=torch.float64)
    assert grid.tolist() == [[a, b] for a in axis.tolist() for b in axis.tolist()]
    assert torch.equal(lattice((0.0, 1.0), 3, 1), torch.tensor([[0.0], [0.5], [1.0]]).double())


def test_a_plane_wave_is_a_sine_along_its_direction():
    waves = Bank(0, "test-bank", PLANE, 4).drawn
    x = torch.rand(4, 7, 2, dtype=torch.float64)
    for n in range(4):
        amplitude, phase, direction = (float(value[n]) for value in vars(waves).values())
        along = np.cos(direction) * x[n, :, 0] + np.sin(direction) * x[n, :, 1]
        torch.testing.assert_close(waves(x)[n, :, 0], amplitude * torch.sin(along + phase))


def test_points_of_two_inputs_are_uniform_on_the_square_and_independent():
    x = Bank(0, "test-bank", PLANE, 4000).support(5, (0.0, 5.0)).x
    assert x.shape == (4000, 5, 2) and x.unique().numel() == x.numel()
    flat = x.flatten(0, 1)
    n = len(flat)
    assert (flat >= 0).all() and (flat < 5).all()
    assert ((flat.mean(0) - 2.5).abs() < 3 * 5 / sqrt(12 * n)).all()
    assert abs(torch.corrcoef(flat.T)[0, 1]) < 3 / sqrt(n)
    fewer = Bank(0, "test-bank", PLANE, 4000).support(2, (0.0, 5.0)).x
    assert torch.equal(x[:, :2], fewer), "more shots begin with the points of fewer"


def test_mini_batches_of_two_inputs_are_disjoint_parts_of_the_grid_with_their_labels():
    block = TaskStream(PLANE, (0, 1), 2).block(0)
    batches = block.mini_batches(6, 10)
    assert batches.x.shape == (1000, 6, 2, 2, 10, 2) and batches.y.shape[-1] == 1
    of_one = batches.x[7, :, 1, 0].reshape(60, 2)
    assert len(of_one.unique(dim=0)) == 60
    torch.testing.assert_close(batches.y[:, 3], block.drawn(batches.x[:, 3]))


def test_what_is_seen_is_the_support_square():
    grid = PLANE.grid
    found = regions(PLANE, small.protocol(5, (0.0, 5.0)), torch.zeros(1, 1, 2))
    assert (grid[found["seen"]] >= 0).all() and len(found["seen"]) == 16
    assert (grid[found["unseen"]] < 0).any(-1).all() and len(found["unseen"]) == 48
    assert sorted([*found["seen"].tolist(), *found["unseen"].tolist()]) == found["all"].tolist()
    assert list(regions(PLANE, small.protocol(5, (-5.0, 5.0)), torch.zeros(1, 1, 2))) == ["all"]


def test_the_gaussian_process_of_two_inputs_is_that_of_the_textbook():
    support = Bank(0, "test-bank", PLANE, 3).support(6, (0.0, 5.0))
    found = processes.posterior(processes.Kernel(4.25, 1.5, noise=1e-4), support, PLANE.grid).mean
    assert found.shape == (3, 64, 1)
    for t in range(3):
        a, y, b = support.x[t].numpy(), support.y[t, :, 0].numpy(), PLANE.grid.numpy()

        def kernel(p, q):
            apart = np.linalg.norm(p[:, None] - q[None], axis=-1)
            return 4.25 * np.exp(-(apart**2) / (2 * 1.5**2))

        expected = kernel(b, a) @ np.linalg.inv(kernel(a, a) + 1e-4 * np.eye(6)) @ y
        assert found[t, :, 0].numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_zero_predictor_of_two_inputs_predicts_one_number_a_point():
    held = held_out(small.protocol(5, (0.0, 5.0)), PLANE, "test-bank", 3)
    assert torch.equal(zero(held.support, held.query.x), torch.zeros(3, 64, 1).double())
    assert not {"least-squares", "gaussian-process-periodic"} & set(names(PLANE)), "none is known"


def test_the_baselines_of_two_inputs_score_what_their_predictions_say():
    protocol = settings.BaselineProtocol(
        shots=6, support=(0.0, 5.0), updates=1, gaussian_process_length_scale=1.5
    )
    found = evaluate_baselines(small.baseline_settings({"square": protocol}, tasks=PLANE))
    held = held_out(protocol, PLANE, "test-bank", 20)
    square = held.query.y.square()[..., 0]
    expected = [square[:, index].mean(-1) for index in held.regions.values()]
    torch.testing.assert_close(found["test/square/zero"], torch.stack(expected))
    assert found["showcase/x"].shape == (41**2, 2) and found["showcase/truth"].shape == (41**2, 1)
    assert found["showcase/square/support"].shape == (6, 3)
    x, y = found["showcase/square/support"].split([2, 1], dim=-1)
    torch.testing.assert_close(y, PLANE.one(amplitude=4.0, phase=1.0)(x))
    assert ((x >= 0) & (x <= 5)).all()


# One input, as it always was.

KNOWN = {
    "bank": [4.902014419536823, 3.638522612512476, 0.4433769883346145],
    "query": [1.4592450065120035, -0.7940774364357805],
    "support": [3.945487419184511, -2.2405419934648996, 4.6531713957792125],
    "fresh": [2.6977995589234514, 4.272238864468479],
    "mini-batches": [1.530612244897959, 0.7142857142857142],
}


def test_one_input_has_the_points_that_it_always_had():
    """Those of training are of the tree before inputs had a width: no study of one input may lose
    them. Those of the bank are of the day when banks ceased to belong to studies.
    """
    flux = SineDistribution()
    assert torch.equal(flux.grid, torch.linspace(-5, 5, 50, dtype=torch.float64)[:, None])
    assert torch.equal(
        picture_x(flux), torch.linspace(-5.5, 5.5, 111, dtype=torch.float64)[:, None]
    )
    bank = Bank(0, "test-bank", flux, 5)
    block = TaskStream(flux, (7,), 1).block(0)
    found = {
        "bank": bank.support(3, (0.0, 5.0)).x[4],
        "query": bank.query(2).x[4],
        "support": block.support(3).x[999, 0, 0],
        "fresh": block.query(2).x[999, 0, 0],
        "mini-batches": block.mini_batches(5, 10).x[999, :2, 0, 0, 0],
    }
    for name, x in found.items():
        assert x[:, 0].tolist() == KNOWN[name], name
