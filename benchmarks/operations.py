"""The floating-point operations of the matrix products of a meta-iteration, counted by formula.

Activations, biases and updates are not counted. Work that several tasks can share counts once.
Neural processes count as gradients of the study's network at all points. Of an LSTM's products,
those with its first state and with the labels of query points have factors of 0, and of a
transformer's, some scores are masked; they are counted, which adds less than a tenth.
"""

from __future__ import annotations

from typing import Any

from equations import outputs_of

from metabench.learning import algorithms, maps
from metabench.learning.algorithm import query_points, second_order_cost
from metabench.learning.algorithms.mmaml import DIRECTIONS
from metabench.learning.recurrent import LSTM
from metabench.learning.settings import TrainSettings
from metabench.learning.shape import Shape
from metabench.learning.transformer import PARTS, Transformer

PASSES = 3
"""Products for each one of a forward pass: it, and the gradients of its two factors."""


def flops(settings: TrainSettings) -> int:
    """Count the operations of one meta-iteration of one run."""
    count = COUNTS.get(settings.algorithm, _gradients)
    return count(settings)


def _gradients(settings: TrainSettings) -> int:
    """Count the gradients of the network at single points."""
    cost = algorithms.load(settings.algorithm).cost(settings.hyperparameters, settings.tasks)
    return settings.shape.operations * cost.point_gradients


def _shared_features(settings: TrainSettings) -> int:
    """Count gradients where adaptation leaves the hidden layers as they are.

    All tasks share those on the grid.
    """
    h: Any = settings.hyperparameters
    grids = h.meta_batch_size if h.queries else 1
    points = h.meta_batch_size * h.shots + grids * query_points(h, settings.tasks)
    return settings.shape.operations * points


def _context(settings: TrainSettings) -> int:
    """Count gradients of a context, which needs none of weights on the support set.

    They are two thirds of a gradient there, and the product with the Hessian four thirds of one.
    """
    h: Any = settings.hyperparameters
    points = 2 * h.inner_steps * h.shots + query_points(h, settings.tasks)
    return settings.shape.operations * h.meta_batch_size * points


def _mapped(settings: TrainSettings) -> int:
    """Count gradients, and the maps of Meta-Curvature."""
    return _gradients(settings) + _of_maps(settings, maps.length(settings.shape.widths))


def _transformed(settings: TrainSettings) -> int:
    """Count gradients, the metrics T^T T as maps, and the products W T and T^T T of each layer."""
    widths, sizes = settings.shape.widths[1:], settings.shape.layer_sizes
    metrics = _of_maps(settings, sum(width**2 for width in widths))
    products = [width * (size + width**2) for size, width in zip(sizes, widths, strict=True)]
    return _gradients(settings) + metrics + 2 * PASSES * sum(products)


def _of_maps(settings: TrainSettings, values: int) -> int:
    """Count the operations that maps with some values add to inner steps.

    In each task and step, three products of each map with matrices that have one row for each
    point: a layer's gradient is a product of two such factors.
    """
    h: Any = settings.hyperparameters
    return PASSES * 2 * h.meta_batch_size * h.inner_steps * h.shots * values


def _lstm(settings: TrainSettings) -> int:
    """Count an LSTM at all points, and its head at the query points."""
    h: Any = settings.hyperparameters
    queries = query_points(h, settings.tasks)
    head = 2 * PASSES * h.units * settings.shape.widths[-1]
    of_task = _read(settings, h.shots + queries, h.shots + 1) + head * queries
    return h.meta_batch_size * of_task


def _modulated(settings: TrainSettings) -> int:
    """Count gradients of MAML, the LSTMs at the support points and the head."""
    h: Any = settings.hyperparameters
    maml = settings.shape.operations * second_order_cost(h, settings.tasks).point_gradients
    head = 2 * PASSES * DIRECTIONS * h.units * 2 * sum(settings.shape.widths[1:-1])
    encoder = DIRECTIONS * _read(settings, h.shots, h.shots) + head
    return maml + h.meta_batch_size * encoder


def _read(settings: TrainSettings, points: int, states: int) -> int:
    """Count an LSTM: gates from each point, and from each state."""
    h: Any = settings.hyperparameters
    of_points, of_states = LSTM(settings.shape, h.units).parts
    return of_points.operations * points + _with_inputs(of_states) * states


def _attention(settings: TrainSettings) -> int:
    """Count a transformer: its networks at each point, and the products of keys and values."""
    h: Any = settings.hyperparameters
    model = Transformer(outputs_of(settings.algorithm, settings.shape), h.blocks, h.heads)
    in_context = settings.algorithm == "in_context_transformer"
    asked = h.shots if in_context else query_points(h, settings.tasks)
    everywhere = h.shots + asked
    embedding, *inner, head = model.parts
    total = embedding.operations * everywhere + _with_inputs(head) * asked
    for first in range(0, PARTS * h.blocks, PARTS):
        for n, part in enumerate(inner[first : first + PARTS]):
            # The second gives keys and values, which labelled points alone have.
            total += _with_inputs(part) * (h.shots if n == 1 else everywhere)
        joined = inner[first].widths[-1]  # scores, and sums of values
        total += 2 * 2 * PASSES * everywhere * h.shots * joined
    return h.meta_batch_size * total


def _with_inputs(shape: Shape) -> int:
    """Count a gradient of a network at a point, with that of its inputs."""
    return shape.operations + 2 * shape.widths[0] * shape.widths[1]


COUNTS = {
    "anil": _shared_features,
    "ridge": _shared_features,
    "cavia": _context,
    "meta_curvature": _mapped,
    "t_net": _transformed,
    "lstm": _lstm,
    "mmaml": _modulated,
    "in_context_transformer": _attention,
    "transformer_neural_process": _attention,
}
"""The count of algorithms whose products are not those of the gradients that their cost counts."""
