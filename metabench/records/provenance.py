"""The inputs of a result: settings, source, versions, processor and commit.

Artefacts embed only digests and versions. What differs between clones or machines is in
provenance.json.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from metabench import HOMES

version = cache(metadata.version)
"""The installed version of a package, looked up once: a lookup takes as long as a header."""

PACKAGE = Path(__file__).parent.parent
VERSIONED = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "seaborn",
    "snakemake",
    "mlflow",
)
SOURCES = (".", "../Snakefile", "../workflow", "../requirements.lock")
"""Paths, relative to the package, whose changes or new files make a checkout dirty.
"""

BESIDE = ("*.cpp", "*.csv", "*.csv.gz")
"""The files that a module's code may read: C++ and data in its folder."""

ARITHMETIC = ("ATEN_", "DNNL_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_")
"""Beginnings of the names of environment variables that may change the bits of a product."""


def canonical(settings: Any) -> str:
    """Serialise settings as JSON with sorted keys and no spaces: equal settings give equal text."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(content: str | bytes) -> str:
    """Return the first 16 hexadecimal digits of a SHA-256."""
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def config_digest(settings: Any) -> str:
    """Return the digest of settings in canonical form."""
    return digest(canonical(settings))


@cache
def code_digest(*modules: str) -> str:
    """Return the digest of the source of modules and of everything they import from this package.

    This includes the C++ and data files in their folders.

    Args:
        modules: Full names, for instance ``metabench.learning.training`` and
            ``metabench.learning.algorithms.fomaml``; or paths of files.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            path = _path(name)
            more = [] if name.endswith(".py") else _matching(path.parent.glob, *BESIDE)
            found[name] = digest(b"".join(file.read_bytes() for file in (path, *more)))
            waiting += _imports(path.read_text(encoding="utf-8"))
    return config_digest(found)


def package_digest() -> str:
    """Return the digest of the whole package's source and data."""
    files = _matching(PACKAGE.rglob, "*.py", *BESIDE)
    return config_digest(
        {str(path.relative_to(PACKAGE)): digest(path.read_bytes()) for path in files}
    )


def _matching(find: Callable[[str], Iterator[Path]], *patterns: str) -> list[Path]:
    return sorted(file for pattern in patterns for file in find(pattern))


def _path(module: str) -> Path:
    if module.endswith(".py"):
        return Path(module)
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _imports(source: str) -> frozenset[str]:
    """Return the modules of this package that a source text imports."""
    return frozenset(_imported(source))


def _imported(source: str) -> Iterator[str]:
    """Yield the modules of this package that a source text imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == PACKAGE.name:  # any of its public names may be used
                    yield from HOMES.values()
                if alias.name.split(".")[0] == PACKAGE.name:
                    yield alias.name
        elif isinstance(node, ast.ImportFrom):
            module = str(node.module)
            for alias in node.names:
                if module == PACKAGE.name and alias.name == "*":
                    yield from HOMES.values()
                if module.split(".")[0] == PACKAGE.name:
                    yield _module_of(module, alias.name)


def _module_of(module: str, name: str) -> str:
    """Return the module that defines a name: a child of the module, or a public name's home."""
    if _path(f"{module}.{name}").exists():
        return f"{module}.{name}"
    return HOMES.get(name, module) if module == PACKAGE.name else module


def versions(*packages: str) -> dict[str, str]:
    """Return installed versions of packages."""
    return {name: version(name) for name in packages}


def made_from(
    kind: str, settings: Mapping[str, Any], code: str, packages: tuple[str, ...], **more: Any
) -> dict[str, Any]:
    """Return the header of an artefact: everything that its content depends on.

    It contains nothing that differs between machines.

    Args:
        kind: Kind of the artefact.
        settings: Settings of its job, in full: the digest is compared, the text is for readers.
        code: Digest of the source that produces it.
        packages: Packages on whose version its content may depend.
        more: Digests of its other inputs.
    """
    digests = {
        "kind": kind,
        "config": config_digest(settings),
        "code": code,
        "versions": versions(*packages),
    }
    return {**digests, **more, "settings": dict(settings)}


def describe(engine: str) -> dict[str, Any]:
    """Return the provenance of results for a reader: machine, inputs and engine."""
    return {
        "code": package_digest(),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", *SOURCES)),
        "versions": {name: _version(name) for name in ("metabench", *VERSIONED)},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "arithmetic": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith(ARITHMETIC)
        },
        "engine": engine,
        "threads": 1,
    }


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that holds this package; None if there is none."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _version(package: str) -> str | None:
    """Return an installed version; None if there is none.

    Not every job needs every package.
    """
    try:
        return version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
