"""A deliberately wrong algorithm: its inner steps are twice as long as inner_step_size."""

from dataclasses import replace

from metabench import Adaptation, adapted, descending, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), 2 * h.inner_step_size)
    return network.summed_gradient(phi, *query)


def predict(network, theta, question, h):
    """Adapt with the same steps."""
    return descending(network, theta, question._replace(multiple=2 * question.multiple), h)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient, adaptation=Adaptation(predict))
