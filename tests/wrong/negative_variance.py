"""A deliberately wrong algorithm: its variances may be negative."""

from dataclasses import replace

from metabench import Adaptation, Predictive, descending
from metabench.learning.algorithms import fomaml


def distribution(network, theta, question, h):
    """Predict the mean for a variance."""
    mean = descending(network, theta, question, h)[-1]
    return Predictive(mean, mean)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(descending, distribution=distribution))
