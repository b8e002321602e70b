"""A deliberately wrong algorithm: its updates go uphill."""

from dataclasses import replace

from metabench import Adaptation, Points, descending
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Reflect the labels at the predictions, and descend."""
    x, y = question.batches
    mirrored = Points(x, 2 * network.predict(theta, x[0]) - y)
    return descending(network, theta, question._replace(batches=mirrored), h)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
