"""The choice of engine: the fused kernel or torch.

The kernel computes where it was compiled and the processor can run it. Torch computes elsewhere.

The two engines round differently, so each artefact records its engine. One engine gives the same
bits for any stack, for any number of cores and after any restart. ``METABENCH_ENGINE=torch``
selects torch where both are available. ``METABENCH_ENGINE=fused`` requires the kernel.
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
REQUIRED_FLAGS = {"avx512": {"avx512f", "avx512dq"}, "avx2": {"avx2", "fma"}, "native": set()}
"""The processor flags that each compiled kernel requires, the fastest kernel first."""


class EngineError(RuntimeError):
    """The requested engine is unavailable, or its kernel was compiled from a different source."""


@cache
def name() -> str:
    """Return the name of the engine that computes.

    Raises:
        EngineError: The variable requests an unavailable engine, or the kernel was compiled from a
            different source.
    """
    requested = os.environ.get(VARIABLE, "")
    if requested not in ("", *NAMES):
        raise EngineError(f"{VARIABLE} must be one of {', '.join(NAMES)}, got {requested!r}")
    if requested == "torch":
        return "torch"
    if library() is None and requested == "fused":
        raise EngineError(
            f"{VARIABLE}=fused, but no kernel was compiled for this processor; see docs/engine.md"
        )
    return "torch" if library() is None else "fused"


def use(engine: str) -> None:
    """Compute with the engine that a study was started with.

    Raises:
        EngineError: That engine is unavailable. There is no fallback, since the numbers of two
            engines differ by rounding.
    """
    # The variable, not a global: child processes have to compute with the same engine.
    os.environ[VARIABLE] = engine
    name.cache_clear()
    if engine == "fused" and library() is None:
        raise EngineError(
            f"the study was started with the fused engine, and {platform.node()} has no kernel for "
            f"its processor; run its jobs on machines that have one, or restart the whole study "
            f"with {VARIABLE}=torch"
        )
    name()


@cache
def library() -> ctypes.CDLL | None:
    """Load the fastest compiled kernel that this processor can run. Return None if there is none.

    Raises:
        EngineError: The kernel was compiled from a different source.
    """
    for kind in kinds():
        paths = sorted(FOLDER.glob(f"kernel_{kind}.*"))
        # An environment of an earlier Python or checkout may have left a kernel of its own.
        for kernel in map(ctypes.CDLL, map(str, paths)):
            if _compiled_from(kernel) == sha256(SOURCE.read_bytes()).hexdigest():
                return kernel
        if paths:
            raise EngineError(
                f"{paths[0].name} was compiled from a different {SOURCE.name}; "
                "delete it, or rebuild it: make setup"
            )
    return None


def _compiled_from(kernel: ctypes.CDLL) -> str:
    """Return the digest of the source that a kernel was compiled from."""
    return (ctypes.c_char * 64).in_dll(kernel, "source").raw.decode()


def kinds() -> list[str]:
    """Return the kinds of kernel that this processor can run, the fastest first."""
    flags = _processor_flags()
    return [kind for kind, required in REQUIRED_FLAGS.items() if required <= flags]


def _processor_flags() -> set[str]:
    """Return the flags of this processor, as Linux names them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return set()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())
