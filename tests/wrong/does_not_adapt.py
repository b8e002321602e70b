"""A deliberately wrong algorithm: it predicts with the initialization after each update."""

from dataclasses import replace

from metabench import Adaptation, before_and_after
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Predict without adaptation."""
    return before_and_after(lambda seen: network.predict(theta, question.x), question)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
