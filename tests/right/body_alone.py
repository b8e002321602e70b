"""A right algorithm: first-order BOIL, whose adaptation leaves the output layer alone."""

import torch

from metabench import (
    Adaptation,
    Algorithm,
    Cost,
    InnerLoop,
    Sizes,
    descending_elementwise,
    one_copy_per_task,
)


class Hyperparameters(InnerLoop):
    """What all inner loops read."""


def cost(h, tasks):
    """Count a gradient for each inner step, and one on the fresh query points."""
    gradients = h.meta_batch_size * (h.inner_steps + 1)
    return Cost(h.meta_batch_size, gradients, gradients * h.shots)


def sample(tasks, h):
    """Draw points of each task, and as many others to learn from."""
    return tasks.support(h.shots), tasks.query(h.shots)


def sizes(network, size, theta):
    """Return the step size of each layer, 0 of the output layer."""
    layers = len(network.layer_sizes)
    return Sizes(
        (torch.as_tensor(size).to(theta)[..., None] * (torch.arange(layers) < layers - 1))[None]
    )


def meta_gradient(network, theta, batch, h):
    """Return the sum of the gradients at the adapted parameters."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    steps = support.repeated(h.inner_steps)
    phi = network.descend(copies, *steps, sizes(network, h.inner_step_size, theta))
    return network.summed_gradient(phi, *query)


def predict(network, theta, question, h):
    """Adapt all layers but the last."""
    size = question.multiple * h.inner_step_size
    if question.step_size is not None:
        size = question.step_size
    return descending_elementwise(network, theta, sizes(network, size, theta), question)


ALGORITHM = Algorithm(Hyperparameters, cost, sample, meta_gradient, adaptation=Adaptation(predict))
