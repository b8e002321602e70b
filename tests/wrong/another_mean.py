"""A deliberately wrong algorithm: the mean of its distribution is not what it predicts."""

from dataclasses import replace

from metabench import Adaptation, Predictive, descending
from metabench.learning.algorithms import fomaml


def distribution(network, theta, question, h):
    """Shift the mean."""
    mean = descending(network, theta, question, h)[-1] + 0.1
    return Predictive(mean, mean.square() + 1)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(descending, distribution=distribution))
