"""A deliberately wrong algorithm: every run adapts with the step size of the first."""

from dataclasses import replace

from metabench import Adaptation, descending
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Adapt with one step size."""
    if (size := question.step_size) is not None:
        size = size.flatten()[:1].expand(size.shape)
    return descending(network, theta, question._replace(step_size=size), h)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
