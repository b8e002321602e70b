"""A deliberately wrong algorithm: it forgets to predict every update."""

from dataclasses import replace

from metabench import Adaptation, descending
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Predict after the last update alone."""
    return descending(network, theta, question, h)[-1:]


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
