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

from metabench.learning.algorithms.deep_kernel import LEAST_NOISE
from metabench.learning.network import Network

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


def learned(algorithm: str, network: Network, h: Any, theta: Tensor) -> Tree:
    """Return the learned values ``(run, M)`` as a tree, whose leaves have the order of theta."""
    if algorithm == "deep_kernel":
        hidden, values = theta.tensor_split([network.trunk.parameters], dim=-1)
        return network.trunk.layers(hidden)[:-1], values
    layers, rest = (
        network.layers(theta[..., : network.parameters]),
        theta[..., network.parameters :],
    )
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
    if algorithm == "neural_process":
        x, *hidden, _ = network.widths
        encoder = replace(network, widths=(x + 1, *hidden, h.context))
        ends = [encoder.parameters, encoder.parameters + network.parameters]
        described, decoder, of_r = theta.tensor_split(ends, dim=-1)
        parts = encoder.layers(described), network.layers(decoder)
        return *parts, of_r.unflatten(-1, (h.context, -1))
    return layers


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
    numbers, gradient, _, map_tree, solve = library
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

    def along(theta: Tree, x: Any, y: Any, steps: range) -> Tree:
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
            phi = along(theta, x, y, range(h.inner_steps))
            return gradient(loss)(phi, x[h.inner_steps], y[h.inner_steps])

        return map_tree(lambda g: g.mean(0), over_tasks(task)(points))

    def reptile(theta: Tree, points: Any) -> Tree:
        def task(points: Any) -> Tree:
            return along(theta, *points, range(h.inner_steps))

        return map_tree(lambda p, phi: p - phi.mean(0), theta, over_tasks(task)(points))

    def joint(theta: Tree, points: Any) -> Tree:
        slopes = over_tasks(lambda points: gradient(loss)(theta, *points))(points)
        return map_tree(lambda g: g.mean(0), slopes)

    def maml(theta: Tree, support: Any, query: Any) -> Any:
        return loss(adapted(theta, support), *query)

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

    first_order = {
        "fomaml": fomaml,
        "fomaml_tail": fomaml_tail,
        "reptile": reptile,
        "joint": joint,
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
    }
    if algorithm in first_order:
        return first_order[algorithm]
    return through(differentiated[algorithm])
