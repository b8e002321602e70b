"""Measure the stacked training job beside a plain PyTorch loop, in turn, on one thread.

    python benchmarks/speed.py [--repeats 5]

The job is the real one: random draws, outer update, validation and a checkpoint each interval. The loop is what most
people would write from the paper: one module, torch.optim.SGD, autograd, no validation. Both train the published cells
of config/flux.yaml in float32. Printed: microseconds per meta-iteration and run, as minimum, median and maximum over
the repeats, and the median of the ratios of neighbouring measurements.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metabench import algorithms, artifacts, config, plans, records, training
from metabench.plans import Cell
from metabench.tasks import SineDistribution, TaskStream

STUDY = config.load(Path(__file__).parents[1] / "config" / "flux.yaml")
STACK = 10
JOB_ITERATIONS = 2000
LOOP_ITERATIONS = 300


def job(cell: Cell) -> float:
    """Run the training job with a stack of runs; return microseconds per meta-iteration and run."""
    settings = {**plans.train_settings(STUDY, cell), "meta_iterations": JOB_ITERATIONS}
    with tempfile.TemporaryDirectory() as folder:

        def checkpoint(state: training.State) -> None:
            artifacts.write(Path(folder) / "checkpoint.safetensors", records.from_state(state), {})

        start = time.perf_counter()
        training.train(settings, tuple(range(STACK)), algorithms.load(cell.algorithm), after_interval=checkpoint)
        return (time.perf_counter() - start) / JOB_ITERATIONS / STACK * 1e6


def module() -> nn.Sequential:
    """Return the Flux script's network."""
    return nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))


def descend(model: nn.Module, x: torch.Tensor, y: torch.Tensor, inner: torch.optim.SGD) -> None:
    """Take one gradient step."""
    inner.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    inner.step()


def fomaml_step(model: nn.Module, data: Any, i: int) -> None:
    """Take one meta-iteration of FOMAML."""
    (sx, sy), (grid, qy) = data
    total = [torch.zeros_like(p) for p in model.parameters()]
    for task in range(sx.shape[1]):
        learner = copy.deepcopy(model)
        inner = torch.optim.SGD(learner.parameters(), lr=0.02)
        descend(learner, sx[i, task], sy[i, task], inner)
        inner.zero_grad()
        nn.functional.mse_loss(learner(grid), qy[i, task]).backward()
        for t, p in zip(total, learner.parameters(), strict=True):
            t.add_(p.grad)
    with torch.no_grad():
        for p, t in zip(model.parameters(), total, strict=True):
            p.sub_(t, alpha=0.01)


def reptile_step(model: nn.Module, data: Any, i: int) -> None:
    """Take one meta-iteration of Reptile."""
    ((x, y),) = data
    learner = copy.deepcopy(model)
    inner = torch.optim.SGD(learner.parameters(), lr=0.02)
    for k in range(x.shape[1]):
        descend(learner, x[i, k, 0], y[i, k, 0], inner)
    with torch.no_grad():
        for p, q in zip(model.parameters(), learner.parameters(), strict=True):
            p.lerp_(q, 0.1)


STEPS: dict[str, Callable[[nn.Module, Any, int], None]] = {"fomaml": fomaml_step, "reptile": reptile_step}


def loop(cell: Cell) -> float:
    """Run the plain loop, its draws made beforehand; return microseconds per meta-iteration."""
    stream = TaskStream(SineDistribution(), (0,), cell.hyperparameters.meta_batch_size)
    batch = algorithms.load(cell.algorithm).sample(stream, 0, cell.hyperparameters)
    tensors = [(p.x.float(), p.y.float()) for p in batch]
    if cell.algorithm == "fomaml":
        (sx, sy), (grid, qy) = tensors
        data: Any = [(sx[:, 0], sy[:, 0]), (grid[0], qy[:, 0])]
    else:
        data = [(tensors[0][0][:, :, 0], tensors[0][1][:, :, 0])]
    model, step = module(), STEPS[cell.algorithm]
    start = time.perf_counter()
    for i in range(LOOP_ITERATIONS):
        step(model, data, i)
    return (time.perf_counter() - start) / LOOP_ITERATIONS * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print("algorithm,subject,stack,minimum,median,maximum,ratio")
    for cell in plans.cells(STUDY):
        if cell.role == "published" and cell.algorithm in STEPS:
            loop(cell), job(cell)  # warm up
            pairs = [(loop(cell), job(cell)) for _ in range(repeats)]
            ratio = statistics.median(a / b for a, b in pairs)
            for subject, stack, times in zip(
                ("plain loop", "metabench"), (1, STACK), zip(*pairs, strict=True), strict=True
            ):
                figures = [f"{f(times):.1f}" for f in (min, statistics.median, max)]
                ratio_text = "1" if stack == 1 else f"{ratio:.1f}"
                print(f"{cell.algorithm},{subject},{stack},{','.join(figures)},{ratio_text}", flush=True)


if __name__ == "__main__":
    main()
