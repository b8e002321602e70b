"""Randomness by address: a number depends on the name of its stream, never on earlier draws.

    bits(key, purpose, block)
        = Philox(SHA-256(key, purpose); (1, 0, 0, block), (2, 0, 0, block), ..)

A stream has a key (a training seed, or the name of a bank or a study), a purpose and a block.
Nothing in the package holds a generator. So a run cannot depend on its neighbours, the evaluation
interval, the number of cores or a restart.

Only the raw bits of NumPy's generator are used, since NumPy may change its distributions between
versions.

Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3",
    doi:10.1145/2063384.2063405.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

BLOCK = 1000
"""Tasks in a block of a training stream. It is part of every address, so changing it would change
every number of the benchmark.
"""

PURPOSES = (
    "init",
    "train-task",
    "train-tasks",
    "train-support",
    "train-support-noise",
    "train-query",
    "train-query-noise",
    "train-shuffle",
    "train-context",
    "validation-bank",
    "validation-bank-noise",
    "validation-bank-outliers",
    "validation-bank-query",
    "validation-bank-query-noise",
    "test-bank",
    "test-bank-noise",
    "test-bank-outliers",
    "test-bank-query",
    "test-bank-query-noise",
    "showcase",
    "bootstrap",
)
"""The purposes of randomness. Streams of different purposes are independent."""


def raw_bits(key: int | str, purpose: str, block: int, count: int) -> NDArray[np.uint64]:
    """Return the first `count` 64-bit words of one block of a stream.

    Args:
        key: A training seed (an integer) or the name of a bank or a study.
        purpose: One of `PURPOSES`.
        block: Index of the block, from 0.
        count: Number of words.

    Returns:
        Words, shape ``(count,)``.

    Raises:
        ValueError: The purpose is not one of `PURPOSES`.
    """
    if purpose not in PURPOSES:
        raise ValueError(
            f"unknown purpose {purpose!r} of a random stream; choose from {', '.join(PURPOSES)}"
        )
    # repr separates the seed 0 from a bank named "0". NumPy's integers have a different repr.
    serialized = repr(key if isinstance(key, str) else int(key))
    digest = sha256(f"{serialized} {purpose}".encode()).digest()
    # The block is the highest word of the counter, so no block can run into the next one.
    philox = np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8"), counter=[0, 0, 0, block])
    return philox.random_raw(count)


def uniforms(key: int | str, purpose: str, block: int, count: int) -> NDArray[np.float64]:
    """Return uniform numbers on [0, 1): the upper 53 bits of each word, divided by 2**53.

    Args and errors are those of `raw_bits`.

    Returns:
        Numbers, shape ``(count,)``, float64.

    Example:
        >>> uniforms(0, "init", 0, 3)[:2] == uniforms(0, "init", 0, 2)
        array([ True,  True])
    """
    return (raw_bits(key, purpose, block, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(unit: NDArray[np.float64], cut: float = np.inf) -> NDArray[np.float64]:
    """Return standard normal numbers from uniform ones, by the inverse distribution function.

    It takes exactly one word for each number, unlike rejection methods.

    Args:
        unit: Numbers on [0, 1), of any shape.
        cut: Truncate the distribution at this many standard deviations from 0.
    """
    from scipy.special import ndtr, ndtri  # here, so that jobs without normal numbers start faster

    low = ndtr(-cut)
    # The inverse of 0 is -inf. 2**-54 is half of the smallest positive uniform number.
    return ndtri(low + (1 - 2 * low) * np.maximum(unit, 2.0**-54))


def students(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers of Student's t distribution with 3 degrees of freedom, with variance 1.

    Args:
        unit: Uniform numbers on [0, 1), of any shape.
    """
    from scipy.special import stdtrit

    degrees = 3
    return stdtrit(degrees, np.maximum(unit, 2.0**-54)) / np.sqrt(degrees / (degrees - 2))


def permutations(
    key: int | str, purpose: str, block: int, count: int, length: int
) -> NDArray[np.int64]:
    """Return independent uniform permutations of ``range(length)``.

    Each row of random words is sorted by the upper bits. The lowest bits of a word hold its
    position. So no two words of a row are equal, and every sorting algorithm gives the same order.

    Returns:
        Permutations, shape ``(count, length)``.
    """
    words = raw_bits(key, purpose, block, count * length).reshape(count, length)
    position_bits = np.uint64(2 ** (length - 1).bit_length() - 1)
    ordered = np.sort(words & ~position_bits | np.arange(length, dtype=np.uint64), axis=-1)
    return (ordered & position_bits).astype(np.int64)
