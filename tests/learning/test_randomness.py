from hashlib import sha256
from itertools import combinations

import numpy as np
import pytest

from metabench.learning.randomness import BLOCK, PURPOSES, permutations, raw_bits, uniforms

MASK = 2**64 - 1


def philox(key, counter):
    """Philox-4x64-10 as Salmon et al. 2011 print it, section 3.3, with Python's integers."""
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = (
            second >> 64 ^ counter[1] ^ key[0],
            second & MASK,
            first >> 64 ^ counter[3] ^ key[1],
            first & MASK,
        )
        key = ((key[0] + 0x9E3779B97F4A7C15) & MASK, (key[1] + 0xBB67AE8584CAA73B) & MASK)
    return list(counter)


def test_the_generator_written_here_gives_the_authors_known_answer():
    # The first line of philox4x64 in the file of known answers of Random123, the authors' library.
    expected = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox((0, 0), (0, 0, 0, 0)) == expected


def test_raw_bits_are_philox_keyed_with_a_digest_of_key_and_purpose():
    digest = sha256(b"'flux' test-bank").digest()
    key = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
    # NumPy counts up before it draws, so that the first four words are those of counter 1.
    expected = philox(key, (1, 0, 0, 3)) + philox(key, (2, 0, 0, 3))
    assert raw_bits("flux", "test-bank", 3, 8).tolist() == expected


def test_the_numbers_of_the_benchmark_are_these():
    # Pinned when the package was written: whoever changes them changes every number of every study.
    words = [0xE3045253939636CA, 0x0AE536B114AF1784, 0xFD6D317715822794, 0xC2F27E1D494BEAAC]
    assert raw_bits(0, "init", 0, 4).tolist() == words
    assert uniforms(7, "train-task", 2, 3).tolist() == [
        0.6646634925127162,
        0.8647706185396192,
        0.05806793376940911,
    ]
    orders = [[6, 7, 3, 2, 0, 4, 5, 1], [7, 2, 5, 3, 4, 6, 0, 1]]
    assert permutations(1, "train-shuffle", 0, 2, 8).tolist() == orders
    assert BLOCK == 1000


def test_a_number_does_not_depend_on_what_was_drawn_before():
    expected = raw_bits(3, "init", 5, 10)
    for purpose in PURPOSES:
        raw_bits(3, purpose, 5, 7)
    assert (raw_bits(3, "init", 5, 10) == expected).all()


@pytest.mark.parametrize("draw", [raw_bits, uniforms, lambda *address: permutations(*address, 6)])
def test_fewer_numbers_are_the_first_of_more(draw):
    assert (draw(0, "bootstrap", 1, 100)[:7] == draw(0, "bootstrap", 1, 7)).all()


def test_keys_purposes_and_blocks_give_different_numbers():
    addresses = [
        (key, purpose, block)
        for key in (0, 1, "0", "flux")
        for purpose in PURPOSES
        for block in range(3)
    ]
    words = [frozenset(raw_bits(*address, 8).tolist()) for address in addresses]
    assert all(a.isdisjoint(b) for a, b in combinations(words, 2))


def test_an_integer_of_numpy_is_the_same_seed():
    assert (raw_bits(np.int64(3), "init", 0, 4) == raw_bits(3, "init", 0, 4)).all()


def test_an_unknown_purpose_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown purpose 'training'.*init, train-task"):
        raw_bits(0, "training", 0, 1)


def test_uniforms_are_the_upper_53_bits():
    words = raw_bits(2, "init", 0, 1000).tolist()
    assert uniforms(2, "init", 0, 1000).tolist() == [(word >> 11) / 2**53 for word in words]


def test_uniforms_are_uniform_on_the_unit_interval():
    n = 100_000
    u = uniforms(0, "bootstrap", 0, n)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 1 / 2) < 3 * np.sqrt(1 / 12 / n)
    # Var[(U - 1/2)^2] = 1/80 - 1/144 = 1/180
    assert abs(u.var() - 1 / 12) < 3 * np.sqrt(1 / 180 / n)
    # Neighbours in a stream: their products have mean 0 and variance 1/144.
    assert abs(((u[:-1] - 1 / 2) * (u[1:] - 1 / 2)).mean()) < 3 / 12 / np.sqrt(n)


def test_permutations_are_permutations():
    orders = permutations(0, "train-shuffle", 0, 100, 50)
    assert (np.sort(orders, axis=-1) == np.arange(50)).all()


def test_every_permutation_is_equally_likely():
    count = 24_000
    orders = permutations(0, "train-shuffle", 0, count, 4)
    _, found = np.unique(orders, axis=0, return_counts=True)
    chi_square = ((found - count / 24) ** 2 / (count / 24)).sum()
    assert len(found) == 24
    # Chi-square with 23 degrees of freedom has a mean of 23 and a variance of 2 * 23.
    assert abs(chi_square - 23) < 3 * np.sqrt(2 * 23)
