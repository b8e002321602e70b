"""A deliberately wrong algorithm: a Reptile that uses its first mini-batch again and again."""

from metabench import Algorithm, Cost, InnerLoop, adapted, mean_over_tasks, one_copy_per_task


class Hyperparameters(InnerLoop):
    """Those of Reptile."""


def cost(h, tasks):
    """Count a gradient for each mini-batch of each task."""
    gradients = h.meta_batch_size * h.inner_steps
    return Cost(h.meta_batch_size, gradients, gradients * h.shots)


def sample(tasks, h):
    """Shuffle each task's grid and cut it."""
    return (tasks.mini_batches(h.inner_steps, h.shots),)


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    (mini_batches,) = batch
    first = mini_batches.at(0).repeated(h.inner_steps)
    copies = one_copy_per_task(theta, h.meta_batch_size)
    return theta - mean_over_tasks(adapted(network, copies, first, h.inner_step_size))


ALGORITHM = Algorithm(Hyperparameters, cost, sample, meta_gradient)
