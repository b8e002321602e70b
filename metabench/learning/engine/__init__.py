"""Which engine computes: the fused kernel or torch.

The kernel does where it was compiled and the processor can run it, torch elsewhere.

The two round differently, so an artefact says which one made it. One engine gives the same bits for
any stack, any number of cores and after any restart. ``METABENCH_ENGINE=torch`` chooses torch where
both are there, and ``METABENCH_ENGINE=fused`` insists on the kernel.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path

NAMES = ("fused", "torch")
VARIABLE = "METABENCH_ENGINE"
FOLDER = Path(__file__).parent
SOURCE = FOLDER / "kernel.cpp"
NEEDS = {"avx512": {"avx512f", "avx512dq"}, "avx2": {"avx2", "fma"}, "native": set()}
"""What each compiled kernel needs of a processor, the best one first."""


class EngineError(RuntimeError):
    """The engine that was asked for is not there, or not what its source says."""


@cache
def name() -> str:
    """Return the name of the engine that computes.

    Raises:
        EngineError: The variable asks for an engine that is not there, or the kernel is older than
            its source.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", *NAMES):
        raise EngineError(f"{VARIABLE} must be one of {', '.join(NAMES)}, got {asked!r}")
    if asked == "torch":
        return "torch"
    if library() is None and asked == "fused":
        raise EngineError(
            f"{VARIABLE}=fused, but no kernel was compiled for this processor; see docs/engine.md"
        )
    return "torch" if library() is None else "fused"


def use(engine: str) -> None:
    """Compute with an engine from now on: that which a study was started with.

    Raises:
        EngineError: It is not there. Numbers of two engines differ by rounding, so another one is
            no way out.
    """
    os.environ[VARIABLE] = engine
    name.cache_clear()
    if engine == "fused" and library() is None:
        raise EngineError(
            f"the study was started with the fused engine, and {platform.node()} has no kernel for "
            f"its processor; run its jobs on machines that have one, or start all of it again with "
            f"{VARIABLE}=torch"
        )
    name()


@cache
def library() -> ctypes.CDLL | None:
    """Load the best compiled kernel that this processor can run; None if there is none.

    Raises:
        EngineError: It was compiled from another source.
    """
    able = _processor()
    for path in (
        path
        for kind, needs in NEEDS.items()
        if needs <= able
        for path in FOLDER.glob(f"kernel_{kind}.*")
    ):
        found = ctypes.CDLL(str(path))
        if (ctypes.c_char * 64).in_dll(found, "source").raw != sha256(
            SOURCE.read_bytes()
        ).hexdigest().encode():
            raise EngineError(
                f"{path.name} was compiled from another {SOURCE.name}; delete it, or make it again: make setup"
            )
        return found
    return None


def _processor() -> set[str]:
    """Return the abilities of this processor, as Linux names them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return set()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())
