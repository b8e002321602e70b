"""Processes that measure: each on one core, with one thread, answering each line of JSON with one
line.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from math import ceil
from pathlib import Path
from typing import Any

SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1") | {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}
NARROW = {
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "XLA_FLAGS": f"{SINGLE['XLA_FLAGS']} --xla_cpu_max_isa=AVX2",
}
"""What holds each library to the vectors of AVX2 on a processor that has wider ones."""

HELD_BACK = (*NARROW, "MKL_DEBUG_CPU_TYPE", "ONEDNN_MAX_CPU_ISA")
"""Variables that make a library use code for a different processor. They are removed from the
environment, so that each library uses its best code.
"""


def cores() -> list[int]:
    """Return the cores that this process may use."""
    pinned = hasattr(os, "sched_getaffinity")  # Linux; elsewhere the system places the processes
    return sorted(os.sched_getaffinity(0)) if pinned else list(range(os.cpu_count() or 1))


class Worker:
    """A process on one core; use it in a with statement.

    Args:
        core: Number of the core.
        narrow: Whether all code must do with AVX2.
    """

    def __init__(self, core: int, narrow: bool = False) -> None:
        line = [sys.executable, __file__, str(core), *["narrow"] * narrow]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        free = {name: value for name, value in os.environ.items() if name not in HELD_BACK}
        chosen = SINGLE | (NARROW if narrow else {})
        self.process = subprocess.Popen(line, env=free | chosen, **pipes)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        self.process.terminate()
        self.process.wait()

    def ask(self, *words: Any) -> None:
        """Send a command and its arguments as JSON; settings are given by their keys."""
        line = json.dumps(words, default=lambda settings: settings.model_dump(mode="json"))
        print(line, file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        """Wait for the answer.

        Raises:
            RuntimeError: The worker could not do it.
        """
        line = self.process.stdout.readline()
        found = (
            json.loads(line) if line else {"error": f"the worker ended with {self.process.wait()}"}
        )
        if "error" in found:
            raise RuntimeError(found["error"])
        return found


def together(workers: list[Worker], *words: Any) -> tuple[float, list[Any]]:
    """Run the same command on all workers at once; return the seconds until the last is done, and
    their answers.
    """
    start = time.perf_counter()
    for worker in workers:
        worker.ask(*words)
    answers = [worker.answer() for worker in workers]
    return time.perf_counter() - start, answers


def microseconds(
    workers: list[Worker], subject: str, seconds: float, description: dict[str, Any]
) -> float:
    """Measure a subject for some seconds at least; return microseconds per meta-iteration and run.

    Args:
        workers: The workers that run in parallel; their subjects already exist.
        subject: Its key.
        seconds: Approximate duration.
        description: The answer of `make`.
    """
    calls = max(1, ceil(seconds / description["seconds"]))
    wall, _ = together(workers, "run", subject, calls)
    return wall / calls / description["iterations"] / len(workers) * 1e6


def megabytes() -> float:
    """Return the peak memory of this process; on Linux `ru_maxrss` would count its parent's too."""
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024 / 1e6
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / 1e6
    )


def serve(core: int, narrow: bool) -> None:
    """Answer commands until there are no more."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    import subjects  # after that: libraries count the cores as they are loaded
    import torch

    from metabench.learning import engine

    torch.set_num_threads(1)
    if narrow:  # the engine loads the best kernel that remains
        engine.REQUIRED_FLAGS.pop("avx512", None)
    made: dict[str, Any] = {}

    def make(key: str, name: str, settings: Any, stack: int) -> dict[str, Any]:
        """Create a subject, warm it up (a single call if that takes long), and return the time of a
        call.
        """
        subject = made[key] = subjects.make(name, subjects.read(settings), stack)
        seconds = run(key, 1)["seconds"]
        found = run(key, 1) if seconds < 5 else {"seconds": seconds, "megabytes": megabytes()}
        return {**subject.description, **found, "iterations": subject.iterations}

    def run(key: str, calls: int) -> dict[str, Any]:
        """Call a subject; return the time and the peak megabytes of the process."""
        start = time.perf_counter()
        for _ in range(calls):
            made[key]()
        return {"seconds": time.perf_counter() - start, "megabytes": megabytes()}

    commands = {"make": make, "run": run}
    for line in sys.stdin:
        command, *words = json.loads(line)
        try:
            answer = commands[command](*words)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), narrow="narrow" in sys.argv)
