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

from metabench import InnerLoop, Queries, from_module
from metabench import second_order_cost as cost
from metabench import support_and_query as sample

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


class Hyperparameters(InnerLoop):
    """What the loop reads."""

    queries: Queries = None


def make_module(network):
    """Return the module, of the widths that a study asks for."""
    layers = []
    for n, m in pairwise(network.widths):
        layers += [nn.Linear(n, m), ACTIVATIONS[network.activation]()]
    return nn.Sequential(*layers[:-1])


def adapt(module, parameters, x, y, h):
    """Take gradient steps on the support points of one task."""
    for _ in range(h.inner_steps):
        loss = mse_loss(functional_call(module, parameters, x), y)
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        parameters = {
            name: value - h.inner_step_size * gradient
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
        }
    return parameters


def meta_loss(module, parameters, tasks, h):
    """Sum the query losses of a meta-batch after adaptation."""
    total = 0.0
    for x, y, query_x, query_y in tasks:
        phi = adapt(module, parameters, x, y, h)
        total = total + mse_loss(functional_call(module, phi, query_x), query_y)
    return total


ALGORITHM = from_module(Hyperparameters, cost, sample, make_module, adapt, meta_loss)
