"""The meta-gradient of each algorithm, written once for both torch.func and jax.

A peer differentiates each line of an algorithm automatically: nothing here is derived by hand. The
learned values are a tree of arrays of one run. A batch has a leading axis of tasks, except for the
x of a grid that all tasks share, so that whatever depends only on it is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import log, pi
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._pytree import tree_leaves

from metabench.learning.algorithms.deep_kernel import LEAST_NOISE
from metabench.learning.algorithms.mmaml import DIRECTIONS
from metabench.learning.gaussian_head import LEAST_DEVIATION
from metabench.learning.network import Network
from metabench.learning.recurrent import LSTM
from metabench.learning.transformer import PARTS, Transformer

Tree = Any
"""Nested lists and tuples of arrays."""


class Library(NamedTuple):
    """The functions of torch.func or jax."""

    numbers: Any
    """The module of `tanh` and similar functions."""
    gradient: Callable[..., Any]
    """`grad`."""
    map: Callable[[Callable[..., Any], tuple[Any, ...]], Callable[..., Any]]
    """`vmap`, and the axes that it maps."""
    map_tree: Callable[..., Any]
    """A function of leaves, applied to trees."""
    solve: Callable[[Any, Any], Any]
    """Solves a positive definite system for right-hand sides."""
    along: Callable[[Callable[[Any], Any], Any, Any], Any]
    """The derivative of a gradient at a point along a direction."""
    softmax: Callable[[Any, int], Any]
    """`softmax` along an axis."""


def learned(algorithm: str, network: Network, h: Any, theta: Tensor) -> Tree:
    """Return the learned values ``(run, M)`` as a tree, whose leaves have the order of theta."""
    if algorithm == "deep_kernel":
        hidden, values = theta.tensor_split([network.trunk.parameters], dim=-1)
        return network.trunk.layers(hidden)[:-1], values
    if algorithm == "lstm":
        lstm = LSTM(network, h.units)
        head = replace(network, widths=(h.units, network.widths[-1]))
        return _of_networks([*lstm.parts, head], theta)
    if algorithm in ("in_context_transformer", "transformer_neural_process"):
        return _of_networks(Transformer(network, h.blocks, h.heads).parts, theta)
    layers, rest = (
        network.layers(theta[..., : network.parameters]),
        theta[..., network.parameters :],
    )
    if algorithm == "mmaml":
        parts = LSTM(network, h.units).parts
        head = replace(network, widths=(DIRECTIONS * h.units, 2 * sum(network.widths[1:-1])))
        return layers, _of_networks([*parts * DIRECTIONS, head], rest)
    if algorithm == "t_net":
        sizes = network.widths[1:]
        squares = rest.split([size * size for size in sizes], dim=-1)
        return layers, [part.unflatten(-1, (n, n)) for part, n in zip(squares, sizes, strict=True)]
    if algorithm == "meta_sgd":
        return layers, network.layers(rest)
    if algorithm == "meta_curvature":
        sizes = [size for n, m in pairwise(network.widths) for size in (n + 1, m)]
        maps = rest.split([size * size for size in sizes], dim=-1)
        return layers, [part.unflatten(-1, (n, n)) for part, n in zip(maps, sizes, strict=True)]
    if algorithm == "maml_plus_plus":
        return layers, rest.unflatten(-1, (h.inner_steps, -1))
    if algorithm == "cavia":
        return layers, rest.unflatten(-1, (h.context, -1))
    if algorithm == "ridge":
        return layers, rest
    if algorithm == "alpaca":
        width = network.widths[-2]
        root, log_noise = rest.tensor_split([width * width], dim=-1)
        return layers, root.unflatten(-1, (width, width)), log_noise
    if algorithm in ("neural_process", "conditional_neural_process"):
        x, *hidden, _ = network.widths
        encoder = replace(network, widths=(x + 1, *hidden, h.context))
        ends = [encoder.parameters, encoder.parameters + network.parameters]
        described, decoder, of_r = theta.tensor_split(ends, dim=-1)
        parts = encoder.layers(described), network.layers(decoder)
        return *parts, of_r.unflatten(-1, (h.context, -1))
    return layers


def _of_networks(networks: list[Network], theta: Tensor) -> list[Tree]:
    """Return the layers of each of some networks, whose parameters follow one another."""
    pieces = theta.split([network.parameters for network in networks], dim=-1)
    return [network.layers(piece) for network, piece in zip(networks, pieces, strict=True)]


def outputs_of(algorithm: str, network: Network) -> Network:
    """Return the network with the outputs that an algorithm gives it: mean and spread, or one."""
    if algorithm in ("conditional_neural_process", "transformer_neural_process"):
        return replace(network, widths=(*network.widths[:-1], 2))
    return network


def meta_gradient(
    algorithm: str, network: Network, h: Any, axes: tuple[Any, ...], library: Library
) -> Callable[..., Tree]:
    """Return the function from one run's learned values and points to its meta-gradient.

    Args:
        algorithm: Its name.
        network: The network.
        h: Hyperparameters.
        axes: For x and y of each batch, 0, or None if all tasks share it.
        library: The library to use.
    """
    numbers, gradient, _, map_tree, solve, along, softmax = library
    activation = {"tanh": numbers.tanh, "relu": lambda z: z * (z > 0)}[network.activation]

    def features(layers: Tree, x: Any) -> Any:
        for weight, bias in layers[:-1]:
            x = activation(x @ weight + bias)
        return x

    def output(layers: Tree, x: Any) -> Any:
        weight, bias = layers[-1]
        return features(layers, x) @ weight + bias

    def squared(prediction: Any, y: Any) -> Any:
        return ((prediction - y) ** 2).mean()

    def loss(layers: Tree, x: Any, y: Any) -> Any:
        return squared(output(layers, x), y)

    def descended(theta: Tree, slope: Tree, step_size: float) -> Tree:
        return map_tree(lambda p, g: p - step_size * g, theta, slope)

    def adapted(theta: Tree, support: Any) -> Tree:
        for _ in range(h.inner_steps):
            theta = descended(theta, gradient(loss)(theta, *support), h.inner_step_size)
        return theta

    def on_each(theta: Tree, x: Any, y: Any, steps: range) -> Tree:
        for k in steps:
            theta = descended(theta, gradient(loss)(theta, x[k], y[k]), h.inner_step_size)
        return theta

    def summed(tree: Tree) -> Tree:
        return map_tree(lambda g: g.sum(0), tree)

    def over_tasks(function: Callable[..., Any]) -> Callable[..., Any]:
        return library.map(function, axes)

    def through(task: Callable[..., Any]) -> Callable[..., Tree]:
        """Differentiate the sum over tasks of a loss of theta, support set and query set."""

        def total(theta: Tree, *points: Any) -> Any:
            return over_tasks(lambda *of_task: task(theta, *of_task))(*points).sum(0)

        return gradient(total)

    def fomaml(theta: Tree, support: Any, query: Any) -> Tree:
        def task(support: Any, query: Any) -> Tree:
            return gradient(loss)(adapted(theta, support), *query)

        return summed(over_tasks(task)(support, query))

    def fomaml_tail(theta: Tree, points: Any) -> Tree:
        def task(points: Any) -> Tree:
            x, y = points
            phi = on_each(theta, x, y, range(h.inner_steps))
            return gradient(loss)(phi, x[h.inner_steps], y[h.inner_steps])

        return map_tree(lambda g: g.mean(0), over_tasks(task)(points))

    def reptile(theta: Tree, points: Any) -> Tree:
        def task(points: Any) -> Tree:
            return on_each(theta, *points, range(h.inner_steps))

        return map_tree(lambda p, phi: p - phi.mean(0), theta, over_tasks(task)(points))

    def joint(theta: Tree, points: Any) -> Tree:
        slopes = over_tasks(lambda points: gradient(loss)(theta, *points))(points)
        return map_tree(lambda g: g.mean(0), slopes)

    def maml(theta: Tree, support: Any, query: Any) -> Any:
        return loss(adapted(theta, support), *query)

    def dr_maml(theta: Tree, support: Any, query: Any) -> Tree:
        losses = over_tasks(lambda *of_task: maml(theta, *of_task))(support, query)
        kept = max(1, round((1 - h.risk_level) * h.meta_batch_size))
        worst = numbers.argsort(losses)[-kept:]

        def of_worst(points: Any, of_points: Any) -> Any:
            return tuple(
                a if axis is None else a[worst] for a, axis in zip(points, of_points, strict=True)
            )

        tail = [of_worst(*pair) for pair in zip((support, query), axes, strict=True)]
        return map_tree(lambda g: g * (h.meta_batch_size / kept), through(maml)(theta, *tail))

    def imaml(theta: Tree, support: Any, query: Any) -> Tree:
        def of_support(phi: Tree) -> Tree:
            return gradient(loss)(phi, *support)

        def matrix(v: Tree) -> Tree:
            """Return v + H v / lambda."""
            curved = along(of_support, phi, v)
            return map_tree(lambda a, b: a + b / h.regularization, v, curved)

        phi = theta
        for _ in range(h.inner_steps):
            slope = map_tree(
                lambda g, p, start: g + h.regularization * (p - start), of_support(phi), phi, theta
            )
            phi = descended(phi, slope, h.inner_step_size)
        g = gradient(loss)(phi, *query)
        b = map_tree(lambda a, b: a - b, g, matrix(g))
        return map_tree(lambda a, b: a + b, g, solved(matrix, b))

    def solved(matrix: Callable[[Tree], Tree], b: Tree) -> Tree:
        """Return steps of conjugate gradients from 0, which end where the curvature is not > 0."""
        d, p, r = map_tree(lambda x: 0 * x, b), b, b
        square = dot(r, r)
        ended = square < 0
        for _ in range(h.cg_steps):
            image = matrix(p)
            curvature = dot(p, image)
            ended = ended | (curvature <= 0)
            size = numbers.where(ended, 0, square / curvature)
            d = map_tree(lambda d, p, size=size: d + size * p, d, p)
            r = map_tree(lambda r, a, size=size: r - size * a, r, image)
            before, square = square, dot(r, r)
            ratio = numbers.where(ended, 0, square / before)
            p = map_tree(lambda r, p, ratio=ratio: r + ratio * p, r, p)
        return d

    def dot(a: Tree, b: Tree) -> Any:
        return sum(tree_leaves(map_tree(lambda x, y: (x * y).sum(), a, b)))

    def t_net(theta: Tree, support: Any, query: Any) -> Any:
        layers, squares = theta

        def transformed(layers: Tree) -> Tree:
            return [(w @ t, b @ t) for (w, b), t in zip(layers, squares, strict=True)]

        for _ in range(h.inner_steps):
            slope = gradient(lambda of: loss(transformed(of), *support))(layers)
            layers = descended(layers, slope, h.inner_step_size)
        return loss(transformed(layers), *query)

    def anil(theta: Tree, support: Any, query: Any) -> Any:
        (x, y), head = support, theta[-1]
        at_support = features(theta, x)  # adaptation does not change them

        def of_head(head: Any) -> Any:
            return squared(at_support @ head[0] + head[1], y)

        for _ in range(h.inner_steps):
            head = descended(head, gradient(of_head)(head), h.inner_step_size)
        return loss([*theta[:-1], head], *query)

    def meta_sgd(theta: Tree, support: Any, query: Any) -> Any:
        phi, alpha = theta
        for _ in range(h.inner_steps):
            slope = gradient(loss)(phi, *support)
            phi = map_tree(lambda p, a, g: p - a * g, phi, alpha, slope)
        return loss(phi, *query)

    def meta_curvature(theta: Tree, support: Any, query: Any) -> Any:
        phi, maps = theta
        for _ in range(h.inner_steps):
            slope = gradient(loss)(phi, *support)
            phi = [
                mapped(layer, of_layer, a, b)
                for layer, of_layer, a, b in zip(phi, slope, maps[::2], maps[1::2], strict=True)
            ]
        return loss(phi, *query)

    def mapped(layer: Tree, slope: Tree, a: Any, b: Any) -> Tree:
        """Step against A [dW; db] B."""
        weight, bias = slope
        below = a @ numbers.concatenate((weight, bias)) @ b
        return descended(layer, (below[:-1], below[-1:]), h.inner_step_size)

    def maml_plus_plus(theta: Tree, support: Any, query: Any) -> Any:
        (phi, alpha), total = theta, 0.0
        for k in range(h.inner_steps):
            slope = gradient(loss)(phi, *support)
            phi = [
                descended(layer, of_layer, alpha[k, n])
                for n, (layer, of_layer) in enumerate(zip(phi, slope, strict=True))
            ]
            total = total + loss(phi, *query) / h.inner_steps
        return total

    def cavia(theta: Tree, support: Any, query: Any) -> Any:
        layers, weight = theta
        first, *rest = layers

        def given(context: Any) -> Tree:
            return [(first[0], first[1] + context @ weight), *rest]

        context = 0 * weight[:, 0]
        for _ in range(h.inner_steps):
            slope = gradient(lambda c: loss(given(c), *support))(context)
            context = context - h.inner_step_size * slope
        return loss(given(context), *query)

    def ridge(theta: Tree, support: Any, query: Any) -> Any:
        layers, scale = theta
        (x, y), (weight, bias) = support, layers[-1]
        at_support, at_query = features(layers, x), features(layers, query[0])
        unit = numbers.eye(len(x), dtype=x.dtype)
        covariance = at_support @ at_support.T + numbers.exp(scale) * unit
        correction = at_support.T @ solve(covariance, y - (at_support @ weight + bias))
        return squared(at_query @ (weight + correction) + bias, query[1])

    def alpaca(theta: Tree, support: Any, query: Any) -> Any:
        layers, root, log_noise = theta
        (x, y), (weight, bias) = support, layers[-1]
        at_support, at_query = features(layers, x), features(layers, query[0])
        prior = root @ root.T
        precision = prior + at_support.T @ at_support
        mean = solve(precision, at_support.T @ (y - bias) + prior @ weight)
        spread = 1 + (at_query * solve(precision, at_query.T).T).sum(-1)
        variance = numbers.exp(log_noise) * spread
        error = query[1] - (at_query @ mean + bias)
        return (numbers.log(2 * pi * variance) + error[:, 0] ** 2 / variance).mean() / 2

    def deep_kernel(theta: Tree, points: Any) -> Any:
        hidden, (mean, *logarithms) = theta[0], theta[1]
        noise, variance, length = (numbers.exp(value) for value in logarithms)
        x, y = points
        at_points = features([*hidden, ()], x) / length
        distances = ((at_points[:, None] - at_points[None]) ** 2).sum(-1)
        unit = numbers.eye(len(x), dtype=x.dtype)
        covariance = variance * numbers.exp(-distances / 2) + (LEAST_NOISE + noise) * unit
        fit = ((y - mean) * solve(covariance, y - mean)).sum()
        volume = numbers.linalg.slogdet(covariance)[1]
        return (fit + volume + len(x) * log(2 * pi)) / (2 * len(x))

    def neural_process(theta: Tree, support: Any, query: Any) -> Any:
        encoder, (first, *rest), of_r = theta
        decoder = [(numbers.concatenate((first[0], of_r)), first[1]), *rest]
        described = output(encoder, numbers.concatenate(support, -1)).mean(0)
        x, y = query
        at_points = numbers.broadcast_to(described, (len(x), *described.shape))
        return squared(output(decoder, numbers.concatenate((x, at_points), -1)), y)

    def conditional_neural_process(theta: Tree, support: Any, query: Any) -> Any:
        encoder, (first, *rest), of_r = theta
        decoder = [(numbers.concatenate((first[0], of_r)), first[1]), *rest]
        known, points = labelled(*support)
        described = (output(encoder, points) * known).sum(0) / known.sum(0)
        x, y = query
        at_points = numbers.broadcast_to(described, (len(x), *described.shape))
        return negative_log_likelihood(output(decoder, numbers.concatenate((x, at_points), -1)), y)

    def labelled(x: Any, y: Any) -> tuple[Any, Any]:
        """Return which labels are not nan, and x with them, or with 0."""
        known = ~numbers.isnan(y)
        return known, numbers.concatenate((x, numbers.where(known, y, 0)), -1)

    def unlabelled(x: Any) -> Any:
        return numbers.concatenate((x, numbers.zeros_like(x[:, :1])), -1)

    def negative_log_likelihood(outputs: Any, y: Any) -> Any:
        """Return the mean negative log likelihood of labels, given means and spreads."""
        mean, z = outputs[:, :1], outputs[:, 1:]
        softplus = numbers.logaddexp(z, numbers.zeros_like(z))
        variance = (LEAST_DEVIATION + (1 - LEAST_DEVIATION) * softplus) ** 2
        return (numbers.log(2 * pi * variance) + (y - mean) ** 2 / variance).mean() / 2

    def after(state: Any, gates: Any) -> Any:
        """Return the state of an LSTM after one more point."""
        i, f, g, o = (gates[..., n * h.units : (n + 1) * h.units] for n in range(4))
        cell = opened(f) * state[1] + opened(i) * numbers.tanh(g)
        return opened(o) * numbers.tanh(cell), cell

    def opened(z: Any) -> Any:
        return (1 + numbers.tanh(z / 2)) / 2

    def read(of_points: Tree, of_hidden: Tree, points: Any, known: Any = None) -> Any:
        """Return the state of an LSTM after a sequence of points."""
        gates, ((weight, bias),) = output(of_points, points), of_hidden
        state = numbers.zeros_like(gates[0, : h.units]), numbers.zeros_like(gates[0, : h.units])
        for k in range(h.shots):
            new = after(state, gates[k] + state[0] @ weight + bias[0])
            if known is not None:
                new = tuple(numbers.where(known[k], a, b) for a, b in zip(new, state, strict=True))
            state = new
        return state

    def lstm(theta: Tree, support: Any, query: Any) -> Any:
        of_points, of_hidden, head = theta
        (x, y), ((weight, bias),) = query, of_hidden
        known, points = labelled(*support)
        state = read(of_points, of_hidden, points, known)
        gates = output(of_points, unlabelled(x))
        hidden, _ = after(state, gates + state[0] @ weight + bias)
        return squared(output(head, hidden), y)

    def mmaml(theta: Tree, support: Any, query: Any) -> Any:
        layers, (*lstms, head) = theta
        pairs = numbers.concatenate(support, -1)
        ends = [
            read(*lstms[:2], pairs)[0],
            read(*lstms[2:], numbers.flip(pairs, (0,)))[0],
        ]
        modulation = output(head, numbers.concatenate(ends)[None])[0]
        half = len(modulation) // 2

        def predicted(layers: Tree, x: Any) -> Any:
            start = 0
            for weight, bias in layers[:-1]:
                units = slice(start, start + bias.shape[-1])
                gamma, beta = modulation[:half][units], modulation[half:][units]
                x = activation((1 + gamma) * (x @ weight + bias) + beta)
                start = units.stop
            weight, bias = layers[-1]
            return x @ weight + bias

        for _ in range(h.inner_steps):
            slope = gradient(lambda of: squared(predicted(of, support[0]), support[1]))(layers)
            layers = descended(layers, slope, h.inner_step_size)
        return squared(predicted(layers, query[0]), query[1])

    def attending(parts: Tree, points: Any, x: Any, visible: Any) -> Any:
        """Return the outputs of a transformer at x; `visible` says which points each one sees."""
        embedding, *inner, head = parts
        shots = len(points)
        z = output(embedding, numbers.concatenate((points, unlabelled(x))))
        for first in range(0, PARTS * h.blocks, PARTS):
            of_queries, of_keys, combination, mlp = inner[first : first + PARTS]
            normal = normed(z)
            q, both = output(of_queries, normal), output(of_keys, normal[:shots])
            width = q.shape[-1]
            k, v = both[:, :width], both[:, width:]
            q, k, v = (t.reshape(len(t), h.heads, -1).swapaxes(0, 1) for t in (q, k, v))
            scores = q @ k.swapaxes(1, 2) / (width // h.heads) ** 0.5
            scores = numbers.where(visible, scores, -numbers.inf)
            scores = numbers.concatenate((scores, numbers.zeros_like(scores[..., :1])), -1)
            sums = softmax(scores, -1)[..., :-1] @ v
            z = z + output(combination, sums.swapaxes(0, 1).reshape(len(z), -1))
            z = z + output(mlp, normed(z))
        return output(head, normed(z[shots:]))

    def normed(z: Any) -> Any:
        centred = z - z.mean(-1)[..., None]
        return centred / ((centred**2).mean(-1)[..., None] + 1e-5) ** 0.5

    def in_context_transformer(theta: Tree, points: Any) -> Any:
        x, y = points
        before = numbers.ones((len(x), len(x)), dtype=numbers.bool)
        visible = numbers.concatenate((numbers.tril(before), numbers.tril(before, -1)))
        return squared(attending(theta, numbers.concatenate(points, -1), x, visible), y)

    def transformer_neural_process(theta: Tree, support: Any, query: Any) -> Any:
        known, points = labelled(*support)
        return negative_log_likelihood(attending(theta, points, query[0], known[:, 0]), query[1])

    def implicit(theta: Tree, *points: Any) -> Tree:
        return summed(over_tasks(lambda *of_task: imaml(theta, *of_task))(*points))

    meta_gradients = {
        "fomaml": fomaml,
        "fomaml_tail": fomaml_tail,
        "reptile": reptile,
        "joint": joint,
        "dr_maml": dr_maml,
        "imaml": implicit,
    }
    differentiated = {
        "maml": maml,
        "anil": anil,
        "meta_sgd": meta_sgd,
        "meta_curvature": meta_curvature,
        "maml_plus_plus": maml_plus_plus,
        "cavia": cavia,
        "alpaca": alpaca,
        "deep_kernel": deep_kernel,
        "ridge": ridge,
        "neural_process": neural_process,
        "conditional_neural_process": conditional_neural_process,
        "t_net": t_net,
        "lstm": lstm,
        "mmaml": mmaml,
        "in_context_transformer": in_context_transformer,
        "transformer_neural_process": transformer_neural_process,
    }
    if algorithm in meta_gradients:
        return meta_gradients[algorithm]
    return through(differentiated[algorithm])
