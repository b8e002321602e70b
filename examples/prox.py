"""Proximal meta-learning: adapt, but pay for going far from the initialization; then move towards
where tasks lead.

    phi_{k+1} = phi_k - alpha (grad L(phi_k; support) + lambda (phi_k - theta)),    phi_0 = theta
    theta <- theta - meta_step_size * lambda * mean_t (theta - phi_t)

Reference: Zhou et al. 2019, "Efficient Meta Learning via Minibatch Proximal Update", algorithm 1.
"""

from metabench.learning.adaptation import mean_over_tasks, one_copy_per_task
from metabench.learning.algorithms.protocol import Cost
from metabench.learning.algorithms.protocol import descending as predictions  # noqa: F401
from metabench.learning.algorithms.protocol import initial_weights as begin  # noqa: F401

HYPERPARAMETERS = ("inner_step_size", "inner_steps", "meta_batch_size", "meta_step_size", "shots")
OPTIONS = ()
STEPS = ("own", "common")
LAMBDA = 0.5


def cost(h, tasks):
    """Count a gradient for each inner step of each task."""
    gradients = h.meta_batch_size * h.inner_steps
    return Cost(h.meta_batch_size, gradients, gradients * h.shots)


def sample(tasks, h):
    """Draw fresh points of each task."""
    return (tasks.support(h.shots),)


def meta_gradient(network, theta, batch, h):
    """Point from the adapted parameters back to the initialization, ``(run, M)``."""
    (support,) = batch
    start = phi = one_copy_per_task(theta, h.meta_batch_size)  # (run, task, P)
    for _ in range(h.inner_steps):
        _, gradient = network.loss_and_gradient(phi, *support)
        phi = phi - h.inner_step_size * (gradient + LAMBDA * (phi - start))
    return LAMBDA * (theta - mean_over_tasks(phi))
