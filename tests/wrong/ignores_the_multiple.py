"""A deliberately wrong algorithm: it ignores the multiple of its step size."""

from dataclasses import replace

from metabench import Adaptation, descending
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Adapt with inner_step_size."""
    return descending(network, theta, question._replace(multiple=1.0), h)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
