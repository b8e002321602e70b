"""A right algorithm: joint training of one task at a time, with weight decay."""

from metabench import (
    YARDSTICK,
    Algorithm,
    Cost,
    Field,
    OuterLoop,
    Shots,
    mean_over_tasks,
    one_copy_per_task,
)


class Hyperparameters(OuterLoop):
    """Those of joint training, and the decay."""

    shots: Shots = 10
    decay: float = Field(0.01, ge=0, lt=1, description="Weight decay.")


def cost(h, tasks):
    """Count a gradient of each task."""
    return Cost(h.meta_batch_size, h.meta_batch_size, h.meta_batch_size * h.shots)


def sample(tasks, h):
    """Draw fresh points of each task."""
    return (tasks.support(h.shots),)


def meta_gradient(network, theta, batch, h):
    """Return the mean of the gradients, and the pull towards zero."""
    (points,) = batch
    _, gradient = network.loss_and_gradient(one_copy_per_task(theta, h.meta_batch_size), *points)
    return mean_over_tasks(gradient) + h.decay * theta


ALGORITHM = Algorithm(Hyperparameters, cost, sample, meta_gradient, adaptation=YARDSTICK)
