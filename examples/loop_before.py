"""MAML as a program of its own, before `loop.py` makes an algorithm of it.

Reference: Finn et al. 2017, arXiv:1703.03400, algorithm 2.
"""

import math

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

SHOTS, TASKS, ITERATIONS = 10, 25, 1000
INNER_STEPS, INNER_STEP_SIZE, META_STEP_SIZE = 1, 0.01, 0.001


def draw_task():
    """Return the support and query points of a sine wave."""
    amplitude, phase = 0.1 + 4.9 * torch.rand(1), math.pi * torch.rand(1)
    x = 10 * torch.rand(2, SHOTS, 1) - 5
    y = amplitude * torch.sin(x - phase)
    return x[0], y[0], x[1], y[1]


def adapt(module, parameters, x, y):
    """Take gradient steps on the support points of one task."""
    for _ in range(INNER_STEPS):
        loss = mse_loss(functional_call(module, parameters, x), y)
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        parameters = {
            name: value - INNER_STEP_SIZE * gradient
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
        }
    return parameters


def meta_loss(module, tasks):
    """Sum the query losses of a meta-batch after adaptation."""
    total = 0.0
    for x, y, query_x, query_y in tasks:
        phi = adapt(module, dict(module.named_parameters()), x, y)
        total = total + mse_loss(functional_call(module, phi, query_x), query_y)
    return total


def main():
    """Meta-train, and print the loss from time to time."""
    module = nn.Sequential(
        nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1)
    )
    optimizer = torch.optim.Adam(module.parameters(), lr=META_STEP_SIZE)
    for iteration in range(ITERATIONS):
        loss = meta_loss(module, [draw_task() for _ in range(TASKS)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if iteration % 100 == 0:
            print(iteration, loss.item() / TASKS)


if __name__ == "__main__":
    main()
