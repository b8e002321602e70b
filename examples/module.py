"""First-order MAML of a module with parameters of its own, among them those of a LayerNorm.

    phi_t = theta - alpha grad L(theta; support_t), inner_steps times
    theta <- theta - meta_step_size * sum_t grad L(phi_t; query_t)

Reference: Finn et al. 2017, arXiv:1703.03400, section 5.2.
"""

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from metabench import Cost, InnerLoop, Queries, from_module, query_points
from metabench import support_and_query as sample


class Hyperparameters(InnerLoop):
    """What the loop reads."""

    queries: Queries = None


def cost(h, tasks):
    """Count a gradient for each inner step, and one on the query set."""
    gradients = h.meta_batch_size * (h.inner_steps + 1)
    points = h.inner_steps * h.shots + query_points(h, tasks)
    return Cost(h.meta_batch_size, gradients, h.meta_batch_size * points)


class Normalized(nn.Module):
    """A hidden layer of normalized units, each with a gain and a bias."""

    def __init__(self, inputs, outputs, width=24):
        super().__init__()
        self.hidden = nn.Linear(inputs, width)
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, outputs)
        nn.init.xavier_normal_(self.hidden.weight)

    def forward(self, x):
        """Return predictions."""
        return self.last(torch.tanh(self.norm(self.hidden(x))))


def make_module(network):
    """Return the module: only its first and last width are those of the study's network."""
    return Normalized(network.widths[0], network.widths[-1])


def adapt(module, parameters, x, y, h):
    """Take gradient steps on the support points of one task, as if gradients were constant."""
    for _ in range(h.inner_steps):
        loss = mse_loss(functional_call(module, parameters, x), y)
        gradients = torch.autograd.grad(loss, list(parameters.values()))
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
