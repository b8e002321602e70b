"""The speed of this process, by which the expected time of jobs is scaled."""

from __future__ import annotations

import time

import torch

from metabench.learning.network import Network


def trial(attempts: int) -> float:
    """Return the least time of several attempts, in seconds, with one thread as in every job.

    An attempt computes the gradients of ten stacks of three 64 x 64 networks at 50 points. The
    least time is the one that other processes disturbed least.
    """
    torch.set_num_threads(1)
    network = Network((1, 64, 64, 1))
    theta = torch.stack([network.initialize(seed) for seed in range(10)]).float()
    copies = theta[:, None].expand(10, 3, -1)
    x, y = torch.linspace(-5, 5, 50)[:, None], torch.zeros(10, 3, 50, 1)
    seconds = []
    for _ in range(attempts):
        start = time.perf_counter()
        network.summed_gradient(copies, x, y)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
