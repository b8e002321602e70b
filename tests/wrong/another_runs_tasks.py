"""A deliberately wrong algorithm: each run learns from the tasks of its neighbour."""

from dataclasses import replace

from metabench import Points, support_and_query
from metabench.learning.algorithms import fomaml


def sample(tasks, h):
    """Draw data, and hand them to the next run."""
    support, query = support_and_query(tasks, h)
    return Points(support.x.roll(1, 1), support.y.roll(1, 1)), Points(query.x, query.y.roll(1, 1))


ALGORITHM = replace(fomaml.ALGORITHM, sample=sample)
