"""Proximal meta-learning: adapt, but pay for going far; then move towards where tasks lead.

    phi_{k+1} = phi_k - alpha (grad L(phi_k; support) + strength (phi_k - theta)),    phi_0 = theta
    theta <- theta - meta_step_size * strength * mean_t (theta - phi_t)

Reference: Zhou et al. 2019, "Efficient Meta Learning via Minibatch Proximal Update", algorithm 1.
"""

from metabench import Algorithm, Cost, Field, InnerLoop, mean_over_tasks, one_copy_per_task


class Hyperparameters(InnerLoop):
    """What Reptile reads, and the price of going far."""

    strength: float = Field(0.5, gt=0, le=10, description="Pull towards theta in adaptation.")


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
        phi = phi - h.inner_step_size * (gradient + h.strength * (phi - start))
    return h.strength * (theta - mean_over_tasks(phi))


ALGORITHM = Algorithm(Hyperparameters, cost, sample, meta_gradient)
