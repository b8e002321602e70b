"""A deliberately wrong algorithm: it adapts to the first support point alone."""

from dataclasses import replace

from metabench import Adaptation, Points, descending
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Adapt to one point."""
    x, y = question.batches
    first = Points(x[..., :1, :], y[..., :1, :])
    return descending(network, theta, question._replace(batches=first), h)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
