"""A deliberately wrong algorithm: it trains on the tasks of the first block again and again."""

from dataclasses import replace

from metabench import support_and_query
from metabench.learning.algorithms import fomaml


def sample(tasks, h):
    """Draw the first block of the stream."""
    return support_and_query(tasks.stream.block(0), h)


ALGORITHM = replace(fomaml.ALGORITHM, sample=sample)
