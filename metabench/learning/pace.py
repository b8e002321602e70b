"""How fast this process computes: what the expected time of jobs is scaled by."""

from __future__ import annotations

import time

import torch

from metabench.learning.network import Network


def trial(attempts: int) -> float:
    """Return the least seconds of some attempts, in one thread as in every job.

    Each is a gradient of ten stacks of three networks of 64 x 64 at 50 points.
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
