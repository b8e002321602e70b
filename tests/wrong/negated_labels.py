"""A deliberately wrong algorithm: it learns the negative of each task."""

from dataclasses import replace

from metabench import Points, support_and_query
from metabench.learning.algorithms import fomaml


def sample(tasks, h):
    """Draw data, and change the sign of the labels."""
    return tuple(Points(x, -y) for x, y in support_and_query(tasks, h))


ALGORITHM = replace(fomaml.ALGORITHM, sample=sample)
