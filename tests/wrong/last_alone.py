"""A deliberately wrong algorithm: it forgets to predict every update."""

from dataclasses import replace

from metabench import Adaptation, descending
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Predict after the last update alone."""
    return descending(network, theta, question._replace(every=False), h)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
