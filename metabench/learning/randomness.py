"""Randomness by address: a number depends on the name of its stream, never on who drew before.

    bits(key, purpose, block) = Philox(SHA-256(key, purpose); (1, 0, 0, block), (2, 0, 0, block), ..)

A stream has a key (a training seed, or the name of a bank or a study), a purpose and a block. Nothing in the
package holds a generator, so a run cannot notice its neighbours, an evaluation interval, the number
of cores or a restart.

Only the raw bits of NumPy's generator are used, since its distributions may change between
versions.

Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3",
    doi:10.1145/2063384.2063405.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

BLOCK = 1000
"""Tasks in a block of a training stream. A constant: changing it changes every number of the
benchmark.
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
    "validation-bank",
    "validation-bank-noise",
    "validation-bank-query",
    "test-bank",
    "test-bank-noise",
    "test-bank-query",
    "showcase",
    "bootstrap",
)
"""What randomness is used for. Streams of different purposes are independent."""


def raw_bits(key: int | str, purpose: str, block: int, count: int) -> NDArray[np.uint64]:
    """Return the first `count` 64-bit words of one block of a stream.

    Args:
        key: A training seed (an integer) or the name of a bank or a study.
        purpose: One of `PURPOSES`.
        block: Number of the block, from 0.
        count: How many words.

    Returns:
        Words, shape ``(count,)``.

    Raises:
        ValueError: The purpose is not one of `PURPOSES`.
    """
    if purpose not in PURPOSES:
        raise ValueError(
            f"unknown purpose {purpose!r} of a random stream; choose from {', '.join(PURPOSES)}"
        )
    spelled = repr(
        key if isinstance(key, str) else int(key)
    )  # an integer of numpy is spelled otherwise
    digest = sha256(f"{spelled} {purpose}".encode()).digest()
    philox = np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8"), counter=[0, 0, 0, block])
    return philox.random_raw(count)


def uniforms(key: int | str, purpose: str, block: int, count: int) -> NDArray[np.float64]:
    """Return uniform numbers on [0, 1): the upper 53 bits of each word, over 2**53.

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

    Args:
        unit: Numbers on [0, 1), of any shape.
        cut: How many standard deviations they may be away from 0.
    """
    from scipy.special import ndtr, ndtri  # which jobs without normal numbers need not wait for

    low = ndtr(-cut)
    return ndtri(low + (1 - 2 * low) * np.maximum(unit, 2.0**-54))  # at 0 it would be -inf


def permutations(
    key: int | str, purpose: str, block: int, count: int, length: int
) -> NDArray[np.int64]:
    """Return independent uniform orders of ``range(length)``.

    They sort rows of random words by their upper bits.

    The lowest bits of a word make room for its place, so that no two words of a row are equal and
    any way to sort them gives the same order.

    Returns:
        Orders, shape ``(count, length)``.
    """
    words = raw_bits(key, purpose, block, count * length).reshape(count, length)
    place = np.uint64(2 ** (length - 1).bit_length() - 1)  # all bits that a place may need
    ordered = np.sort(words & ~place | np.arange(length, dtype=np.uint64), axis=-1)
    return (ordered & place).astype(np.int64)
