"""A deliberately wrong algorithm: its query labels are those of another task."""

from dataclasses import replace

from metabench import Points, support_and_query
from metabench.learning.algorithms import fomaml


def sample(tasks, h):
    """Draw data, and hand the query labels to the next task."""
    support, query = support_and_query(tasks, h)
    return support, Points(query.x, query.y.roll(1, -3))


ALGORITHM = replace(fomaml.ALGORITHM, sample=sample)
