"""A deliberately wrong algorithm: it says that it descends plainly, and adapts the head alone."""

from dataclasses import replace
from itertools import repeat

from metabench import Adaptation, descending_elementwise
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Adapt the head."""
    size = h.inner_step_size if question.step_size is None else question.step_size[..., None]
    sizes = repeat(size * network.head.to(theta.dtype))
    return descending_elementwise(network, theta, sizes, question)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict, plain=True))
