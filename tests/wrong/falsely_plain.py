"""A deliberately wrong algorithm: it says that it descends plainly, and adapts the head alone."""

from dataclasses import replace

import torch

from metabench import Adaptation, Sizes, descending_elementwise
from metabench.learning.algorithms import fomaml


def predict(network, theta, question, h):
    """Adapt the head."""
    size = h.inner_step_size if question.step_size is None else question.step_size[..., None]
    head = torch.arange(len(network.layer_sizes)) == len(network.layer_sizes) - 1
    sizes = (size * head.to(theta.dtype)).expand(*theta.shape[:-1], -1)
    return descending_elementwise(network, theta, Sizes(sizes[None]), question)


ALGORITHM = replace(fomaml.ALGORITHM, adaptation=Adaptation(predict, plain=True))
