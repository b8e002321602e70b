"""A deliberately wrong algorithm: a Reptile that moves away from where tasks lead."""

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
    copies = one_copy_per_task(theta, h.meta_batch_size)
    return mean_over_tasks(adapted(network, copies, mini_batches, h.inner_step_size)) - theta


ALGORITHM = Algorithm(Hyperparameters, cost, sample, meta_gradient)
