"""A deliberately wrong algorithm: the last task takes the place of the first."""

from dataclasses import replace

from metabench import Points, support_and_query
from metabench.learning.algorithms import fomaml


def sample(tasks, h):
    """Draw data, and put the last task in place of the first."""
    order = [-1, *range(1, h.meta_batch_size)]
    (x, y), query = support_and_query(tasks, h)
    return Points(x[:, :, order], y[:, :, order]), Points(query.x, query.y[:, :, order])


ALGORITHM = replace(fomaml.ALGORITHM, sample=sample)
