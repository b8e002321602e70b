"""Compile the fused engine, once for each kind of processor that this one can be.

Where there is no compiler the install goes on without.
"""

import platform
from copy import copy
from functools import cache
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from subprocess import run

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNEL = Path("metabench/learning/engine/kernel.cpp")
TARGETS = {"avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx512f", "-mavx512dq", "-mfma"]}
"""Flags for processors of the family x86-64; a processor that has none of these takes the torch
engine.
"""

# Fused multiply-adds are wanted everywhere, and nothing else that would change a sum.
FLAGS = [
    "-std=gnu++17",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-Wno-psabi",
    "-g0",  # not what Python was compiled with: it takes half as long again
]


def extension(name: str, flags: list[str]) -> Extension:
    """Return the kernel for one kind of processor, which knows the source that it was made from."""
    return Extension(
        f"metabench.learning.engine.kernel_{name}",
        [str(KERNEL)],
        define_macros=[("SOURCE", f'"{sha256(KERNEL.read_bytes()).hexdigest()}"')],
        extra_compile_args=[*FLAGS, *flags],
        optional=True,
    )


OTHERS = ("c++", "g++", "clang++")
"""Compilers for a Python whose own is not on this machine."""


@cache
def runs(*program: str) -> bool:
    """Return whether a compiler is there, by any name, path or launcher: `ccache g++`."""
    try:
        return run([*program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Apart(build_ext):
    """Builds each kernel in a folder of its own, since both have one source: so two at a time.

    A kernel serves every Python: a second one does not leave the first one's behind.
    """

    def build_extensions(self) -> None:
        """Build all, with another compiler if that of this Python, or of CXX, does not run."""
        others = [other for other in OTHERS if runs(other)]
        for name, command in vars(self.compiler).items():
            if name.startswith(("compiler", "linker")) and isinstance(command, list):
                program = list(takewhile(lambda word: not word.startswith("-"), command))
                if others and not runs(*program):
                    command[: len(program)] = others[:1]
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        """Build one."""
        alone = copy(self)
        alone.build_temp = f"{self.build_temp}/{extension.name}"
        super(Apart, alone).build_extension(extension)

    def get_ext_filename(self, fullname: str) -> str:
        """Name a kernel without the version of Python, of which it calls nothing."""
        return f"{fullname.replace('.', '/')}.so"


def kinds() -> dict[str, list[str]]:
    """Return the flags of each kernel that this processor can run, or may be able to."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return {"native": []}
    described = Path("/proc/cpuinfo")
    if described.exists() and "avx512dq" not in described.read_text(encoding="utf-8"):
        # The other kernel would take half a minute to compile, and gives the same bits.
        return {"avx2": TARGETS["avx2"]}
    return TARGETS


targets = kinds()
setup(
    ext_modules=[extension(*target) for target in targets.items()],
    cmdclass={"build_ext": Apart},
    options={"build": {"parallel": len(targets)}},
)
