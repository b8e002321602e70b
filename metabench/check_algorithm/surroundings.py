"""Checks of what an algorithm must not change or depend on: process, network, tasks."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metabench.check_algorithm.subject import NotHeldError, Subject, must, same
from metabench.learning.settings import NetworkSettings
from metabench.learning.tasks import PlaneWaveDistribution, SineDistribution

HASH_SEEDS = ("1", "2")
"""Values of PYTHONHASHSEED under which other processes must compute the same."""


def everything(s: Subject) -> Iterator[Tensor]:
    """Yield an algorithm's initial values, data, directions and predictions."""
    theta, batch = s.begin(), s.batch()
    yield theta
    for points in batch:
        yield from points
    yield s.gradient(theta, batch)
    yield s.predict(theta, s.held_out(), s.tasks.grid.float())


def leaves_global_states_alone(s: Subject) -> None:
    """No global random state or setting is read or changed: randomness comes from `sample`."""
    states = _random_states()
    try:
        found = [_under(seed, lambda: list(everything(s))) for seed in (1, 2)]
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
    (first, first_unchanged), (second, second_unchanged) = found
    must(
        all(same(a, b) for a, b in zip(first, second, strict=True)),
        "results depend on a global random state",
    )
    must(first_unchanged and second_unchanged, "a global random state or setting is changed")


def _random_states() -> tuple[Tensor, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _settings() -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        dict(os.environ),
    )


def _under(seed: int, run: Callable[[], list[Tensor]]) -> tuple[list[Tensor], bool]:
    """Run under random states of a seed; return results, and whether nothing was changed."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    before, settings = _random_states(), _settings()
    results, after = run(), _random_states()
    unchanged = (
        torch.equal(before[0], after[0])
        and str(before[1]) == str(after[1])
        and before[2] == after[2]
        and settings == _settings()
    )
    return results, unchanged


def is_the_same_in_every_process(s: Subject) -> None:
    """Other processes, with other hash seeds, compute the same bits."""
    here = digest(s)
    for others in digests_elsewhere([s.name_or_file]):
        must(
            others[s.name_or_file] == here,
            "a process with a different PYTHONHASHSEED gives different numbers: "
            "something depends on hashes, on the order of a set, on time or on the process",
        )


def digest(s: Subject) -> str:
    """Return a digest of everything that an algorithm computes."""
    found = sha256()
    for tensor in (*everything(s), s.train(4 if s.trains else 0).theta):
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def digests_elsewhere(names: Iterable[str]) -> list[dict[str, str]]:
    """Return the digests of algorithms by name, from one process per hash seed."""
    root = str(Path(__file__).parent.parent.parent)
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-c", f"import {__name__} as here; here.answer()", *names]
    processes = []
    for seed in HASH_SEEDS:
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": seed}
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    answers = [process.communicate()[0] for process in processes]
    must(
        all(process.returncode == 0 for process in processes),
        "a separate process could not repeat the computation",
    )
    # What an algorithm prints comes before.
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def works_with_other_networks_and_tasks(s: Subject) -> None:
    """It works with one hidden layer, relu, two features of x, one task, noise, few shots."""
    others = (
        replace(s, layers=NetworkSettings(hidden=(6,), activation="relu")),
        replace(s, tasks=PlaneWaveDistribution(grid_points=8)),
        replace(s, tasks=SineDistribution(noise=0.1, training_tasks=5)),
        s.changed(meta_batch_size=1, shots=1),
    )
    for other in others:
        conditions = f"{other.network}, tasks of family {other.tasks.family}, {other.h!r}"
        try:
            for tensor in everything(other):
                must(bool(tensor.isfinite().all()), f"not finite with {conditions}")
        except NotHeldError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise NotHeldError(f"{type(error).__name__} with {conditions}: {text}") from error


def answer() -> None:
    """Print the digests of the algorithms that the command line names."""
    torch.set_num_threads(1)
    print(json.dumps({name: digest(Subject(name)) for name in sys.argv[1:]}))
