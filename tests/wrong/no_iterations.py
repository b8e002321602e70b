"""A deliberately wrong algorithm: its data are of one meta-iteration."""

from dataclasses import replace

from metabench import support_and_query
from metabench.learning.algorithms import fomaml


def sample(tasks, h):
    """Draw data, and keep those of the first meta-iteration."""
    return tuple(points.at(0) for points in support_and_query(tasks, h))


ALGORITHM = replace(fomaml.ALGORITHM, sample=sample)
