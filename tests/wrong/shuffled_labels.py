"""A deliberately wrong algorithm: labels are not those of the points beside them."""

from dataclasses import replace

from metabench import Points, support_and_query
from metabench.learning.algorithms import fomaml


def sample(tasks, h):
    """Draw data, and turn the order of the support labels round."""
    support, query = support_and_query(tasks, h)
    return Points(support.x, support.y.flip(-2)), query


ALGORITHM = replace(fomaml.ALGORITHM, sample=sample)
