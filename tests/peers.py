"""The package's computations, written in the usual way: one torch.nn module at a time, and
autograd.
"""

import torch
from torch import Tensor, nn

from metabench.learning.network import Network

MODULES = {"tanh": nn.Tanh, "relu": nn.ReLU}


def module_of(network: Network, theta: Tensor) -> nn.Sequential:
    """Return a module with the parameters ``(P,)`` of one network; nn.Linear stores weights as
    (fan_out, fan_in).
    """
    parts: list[nn.Module] = []
    with torch.no_grad():
        for weight, bias in network.layers(theta):
            linear = nn.utils.skip_init(nn.Linear, *weight.shape, dtype=theta.dtype)
            linear.weight.copy_(weight.T)
            linear.bias.copy_(bias[0])
            parts += [linear, MODULES[network.activation]()]
    return nn.Sequential(*parts[:-1])


def vector_of(tensors: list[Tensor]) -> Tensor:
    """Return a module's parameters, or their gradients, as the flat ``(P,)`` of `Network`."""
    return torch.cat([(t.T if t.dim() == 2 else t).detach().flatten() for t in tensors])


def loss_and_gradient(
    network: Network, theta: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean squared error of one network, and its gradient ``(P,)`` by autograd."""
    model = module_of(network, theta)
    loss = nn.functional.mse_loss(model(x), y)
    return loss.detach(), vector_of(torch.autograd.grad(loss, list(model.parameters())))


def hessian_product(network: Network, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    """Return the Hessian of the mean squared error of one network times v, ``(P,)``, by autograd of
    its gradient.
    """
    model, direction = module_of(network, theta), module_of(network, v).parameters()
    parameters = list(model.parameters())
    loss = nn.functional.mse_loss(model(x), y)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    slope = sum((g * d.detach()).sum() for g, d in zip(gradient, direction, strict=True))
    return vector_of(torch.autograd.grad(slope, parameters))


def adapted(
    network: Network, theta: Tensor, batches: list[tuple[Tensor, Tensor]], step_size: float
) -> Tensor:
    """Return the parameters ``(P,)`` after a step of torch.optim.SGD on each batch."""
    model = module_of(network, theta)
    optimizer = torch.optim.SGD(model.parameters(), lr=step_size)
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return vector_of(list(model.parameters()))
