"""A deliberately wrong algorithm: it adapts with its own step size, whatever it is given."""

from dataclasses import replace

from metabench import Adaptation, descending
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Adapt with inner_step_size."""
    return descending(network, theta, question._replace(step_size=None), h)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
