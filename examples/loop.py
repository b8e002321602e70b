"""MAML as a loop over tasks with a torch.nn.Module, brought in as it was.

    phi_t = theta - alpha grad L(theta; support_t), inner_steps times
    theta <- theta - meta_step_size * grad_theta sum_t L(phi_t; query_t)

Reference: Finn et al. 2017, arXiv:1703.03400, algorithm 2.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from metabench import Adaptation, Algorithm, InnerLoop, Queries
from metabench import second_order_cost as cost
from metabench import support_and_query as sample

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


# The loop, as one has it: a module, adaptation to one task, the loss of a meta-batch.


def make_module(network):
    """Return the module, of the widths that a study asks for."""
    layers = []
    for n, m in pairwise(network.widths):
        layers += [nn.Linear(n, m), ACTIVATIONS[network.activation]()]
    return nn.Sequential(*layers[:-1])


def adapt(module, parameters, x, y, step_size, steps, create_graph=True):
    """Take gradient steps on the support points of one task."""
    for _ in range(steps):
        loss = mse_loss(functional_call(module, parameters, x), y)
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=create_graph)
        parameters = {
            name: value - step_size * gradient
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
        }
    return parameters


def meta_loss(module, parameters, tasks, step_size, steps):
    """Sum the query losses of a meta-batch after adaptation."""
    total = 0.0
    for x, y, query_x, query_y in tasks:
        phi = adapt(module, parameters, x, y, step_size, steps)
        total = total + mse_loss(functional_call(module, phi, query_x), query_y)
    return total


# What brings it in: parameters as one flat vector, a loop over runs, and predictions along the way.


class Hyperparameters(InnerLoop):
    """What the loop reads."""

    queries: Queries = None


def empty_module(network):
    """Return the module without numbers of its own: those of a run are put in."""
    with torch.device("meta"):
        return make_module(network)


def named(module, flat):
    """Return a flat vector as the parameters of a module, by name."""
    shapes = {name: value.shape for name, value in module.named_parameters()}
    parts = flat.split([shape.numel() for shape in shapes.values()])
    return {
        name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def meta_gradient(network, theta, batch, h):
    """Return the gradient of each run's meta-loss, ``(run, M)``."""
    support, query = batch
    query_x = query.x.expand(*query.y.shape[:-1], -1)  # the grid is the same for all tasks
    module, found = empty_module(network), []
    for flat, *points in zip(theta.detach(), *support, query_x, query.y, strict=True):
        flat.requires_grad_()
        tasks = zip(*points, strict=True)
        loss = meta_loss(module, named(module, flat), tasks, h.inner_step_size, h.inner_steps)
        found.append(torch.autograd.grad(loss, flat)[0])
    return torch.stack(found)


def predict(network, theta, question, h):
    """Adapt each network of a stack ``(..., M)``, and predict after the measured updates."""
    if question.optimizer == "adam":
        raise ValueError("loop.py adapts by plain descent, and a protocol asks for adam")
    module, stack = empty_module(network), theta.shape[:-1]
    size = question.step_size
    if size is None:
        size = torch.tensor(question.multiple * h.inner_step_size, dtype=theta.dtype)

    def each(values):
        return values.expand(*stack, *values.shape[-2:]).flatten(0, -3)

    support = question.batches.at(0)
    rows = zip(
        theta.detach().reshape(-1, theta.shape[-1]),
        size.expand(stack).flatten(),
        each(support.x),
        each(support.y),
        each(question.x),
        strict=True,
    )
    found = [
        torch.stack(list(along(module, flat, step, x, y, at, len(question.batches.x))))
        for flat, step, x, y, at in rows
    ]
    return torch.stack(found, dim=1).unflatten(1, stack)[question.measured]


def along(module, flat, step_size, x, y, at, updates):
    """Yield the predictions of one network on one task, after each update."""
    parameters = named(module, flat)
    for n in range(updates + 1):
        if n:
            parameters = {k: v.detach().requires_grad_() for k, v in parameters.items()}
            parameters = adapt(module, parameters, x, y, step_size, 1, create_graph=False)
        yield functional_call(module, parameters, at).detach()


ALGORITHM = Algorithm(Hyperparameters, cost, sample, meta_gradient, adaptation=Adaptation(predict))
