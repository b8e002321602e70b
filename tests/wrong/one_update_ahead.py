"""A deliberately wrong algorithm: it predicts after one update more than it was asked."""

from dataclasses import replace

from metabench import Adaptation, adapted, descending
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Adapt once before the first update."""
    phi = adapted(network, theta, question.batches.at(slice(1)), h.inner_step_size)
    return descending(network, phi, question, h)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
