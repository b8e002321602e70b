"""A deliberately wrong algorithm: every meta-iteration has the data of the first."""

from dataclasses import replace

from metabench import support_and_query
from metabench.learning.algorithms import fomaml


def sample(tasks, h):
    """Draw data, and repeat those of the first meta-iteration."""
    drawn = support_and_query(tasks, h)
    return tuple(points.at(0).repeated(len(points.y)) for points in drawn)


ALGORITHM = replace(fomaml.ALGORITHM, sample=sample)
