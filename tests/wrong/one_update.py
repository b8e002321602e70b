"""A deliberately wrong algorithm: its first update is its last, though it takes steps."""

from dataclasses import replace

from metabench import Adaptation, adapted, before_and_after
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Take one step."""
    phi = adapted(network, theta, question.batches.at(slice(1)), h.inner_step_size)
    return before_and_after(
        lambda seen: network.predict(phi if seen else theta, question.x), question
    )


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict))
