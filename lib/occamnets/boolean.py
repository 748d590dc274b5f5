"""Boolean functions: one order of inputs, one truth-table type, one bit-packing.

A function ``f: {0,1}^n -> {0,1}`` is its truth table, a Boolean array whose last axis has length ``2**n``. Entry ``i``
is the value at the input whose coordinates ``x_1 ... x_n`` are the binary digits of ``i``, most significant first. This
is the order of the published code for Valle-Perez et al. 2018. Packed, the table is ``ceil(2**n / 8)`` bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations_with_replacement, permutations
from math import prod

import numpy as np
from jaxtyping import Bool, Int, Int8, Num, UInt8, UInt64

LARGEST = {1: 1, 2: 2, 3: 3, 4: 5, 5: 9}
"""Largest integer weight that the zero-threshold functions of ``n`` inputs need; found by raising it."""


def cube(n: int) -> Int8[np.ndarray, "points n"]:
    """All points of ``{0,1}^n``, one a row, in the book's order.

    Raises ``ValueError`` unless ``1 <= n <= 24``.

    >>> cube(2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    if not 1 <= n <= 24:
        raise ValueError(f"n = {n}: the number of inputs must lie between 1 and 24")
    return (np.arange(2**n)[:, None] >> np.arange(n)[::-1] & 1).astype(np.int8)


def inputs_of(tables: Bool[np.ndarray, "*batch points"]) -> int:
    """The number ``n`` of inputs of truth tables of length ``2**n``; ``ValueError`` for any other length.

    >>> inputs_of(np.zeros((5, 8), dtype=bool))
    3
    """
    points = tables.shape[-1]
    n = points.bit_length() - 1
    if n < 1 or points != 2**n:
        raise ValueError(f"a truth table has 2**n entries with n >= 1; this one has {points}")
    return n


def pack(tables: Bool[np.ndarray, "*batch points"]) -> UInt8[np.ndarray, "*batch bytes"]:
    """Truth tables as bytes, first entry in the highest bit; for ``n < 3`` the low bits are zero.

    >>> pack(cube(3)[:, 0] == 1).tolist()
    [15]
    """
    inputs_of(tables)
    return np.packbits(tables, axis=-1)


def unpack(packed: UInt8[np.ndarray, "*batch bytes"], n: int) -> Bool[np.ndarray, "*batch points"]:
    """The truth tables that `pack` packed; ``ValueError`` if the bytes are not those of ``n`` inputs."""
    if n < 1:
        raise ValueError(f"n = {n}: a function of bits has 1 input or more")
    if packed.shape[-1] != max(1, 2**n // 8):
        raise ValueError(
            f"{packed.shape[-1]} bytes do not hold a truth table of n = {n} inputs: {max(1, 2**n // 8)} do"
        )
    return np.unpackbits(packed, axis=-1, count=2**n).astype(bool)


def ones(packed: UInt8[np.ndarray, "*batch bytes"]) -> Int[np.ndarray | np.int64, "*batch"]:
    """``T(f)``, the number of inputs on which each packed function is 1.

    >>> int(ones(pack(cube(3)[:, 0] == 1)))
    4
    """
    return np.bitwise_count(packed).sum(axis=-1, dtype=np.int64)


def input_orders(n: int) -> Int[np.ndarray, "orders points"]:
    """Row ``k`` reorders a truth table as if the inputs had been named in the ``k``-th of their ``n!`` orders.

    >>> bool((cube(2)[:, 0][input_orders(2)[1]] == cube(2)[:, 1]).all())
    True
    """
    place = 2 ** np.arange(n)[::-1]
    return np.array([cube(n)[:, list(order)] @ place for order in permutations(range(n))])


def zero_threshold_functions(n: int, *, largest: int | None = None) -> Bool[np.ndarray, "functions points"]:
    """All functions ``1(w.x > 0)`` on ``{0,1}^n`` with no ``w.x = 0`` at any ``x != 0``, one a row, in ascending order.

    These are the functions of a perceptron without bias. Their numbers for ``n`` = 1 ... 5 are 2, 6, 32, 370, 11292,
    OEIS A034997. They come from integer weights up to `LARGEST`; that nothing is missing follows from Zaslavsky's count
    of the regions between the hyperplanes ``w.x = 0``, which the tests carry out. With ``largest``, only what integer
    weights up to that magnitude give. Raises ``ValueError`` unless ``1 <= n <= 5`` and ``largest >= 1``.

    >>> zero_threshold_functions(2).astype(int).tolist()
    [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 1], [0, 1, 1, 1]]
    """
    if n not in LARGEST:
        raise ValueError(f"n = {n}: the zero-threshold functions are enumerated for n from 1 to {max(LARGEST)}")
    largest = LARGEST[n] if largest is None else largest
    if largest < 1:
        raise ValueError(f"largest = {largest}: the largest integer weight must be 1 or more")
    weights = combinations_with_replacement(range(-largest, largest + 1), n)
    scores = np.array(list(weights)) @ cube(n).T
    tables = unpack(np.unique(pack(scores[(scores[:, 1:] != 0).all(axis=1)] > 0), axis=0), n)
    return unpack(np.unique(pack(tables[:, input_orders(n)]).reshape(-1, max(1, 2**n // 8)), axis=0), n)


def zero_threshold_regions(n: int, primes: Sequence[int]) -> int:
    """How many functions `zero_threshold_functions` has, counted without listing them, for ``n >= 3``.

    A function is a region between the hyperplanes ``w.x = 0``; by Zaslavsky's theorem there are ``|chi(-1)|`` of them,
    ``chi`` the characteristic polynomial. For a prime ``q`` above every minor of a 0/1 matrix with ``n`` columns,
    ``chi(q)`` is the number of points of ``F_q^n`` on no hyperplane (Athanasiadis 1996), which is ``q - 1`` times the
    number with first coordinate 1, a monic polynomial of degree ``n - 1`` that ``n - 1`` primes fix. Smaller primes
    give a wrong number. ``ValueError`` for ``n < 3``, fewer primes than that, or a prime above 61.

    >>> zero_threshold_regions(4, (5, 7, 11))
    370
    """
    if n < 3 or len(set(primes)) < n - 1 or max(primes) > 61:
        raise ValueError(f"n = {n}, primes {tuple(primes)}: need n >= 3 and at least n - 1 different primes up to 61")
    lower = {q: _points_off(n, q) - q ** (n - 1) for q in primes}
    basis = {q: prod(Fraction(-1 - p, q - p) for p in primes if p != q) for q in primes}
    return int(2 * abs((-1) ** (n - 1) + sum(lower[q] * basis[q] for q in primes)))


def _points_off(n: int, q: int) -> int:
    """Points of ``F_q^n`` with first coordinate 1 at which no nonempty subset of coordinates sums to 0.

    The subset sums of a partial point are the bits of one integer, and points with the same sums are counted together.
    """
    sums, ways = np.array([0b11], dtype=np.uint64), np.array([1])
    for _ in range(n - 3):
        sums, parts = map(np.concatenate, zip(*_one_more_coordinate(sums, ways, q), strict=True))
        sums, which = np.unique(sums, return_inverse=True)
        ways = np.bincount(which, weights=parts)
    return sum(int(w @ (q - np.bitwise_count(s))) for s, w in _one_more_coordinate(sums, ways, q))


def _one_more_coordinate(
    sums: UInt64[np.ndarray, " points"], ways: Num[np.ndarray, " points"], q: int
) -> Iterator[tuple[UInt64[np.ndarray, " kept"], Num[np.ndarray, " kept"]]]:
    """For each coordinate that keeps 0 out: the subset sums with it, and how often each set of sums comes."""
    full = np.uint64(2**q - 1)
    for r in np.arange(1, q, dtype=np.uint64):
        turned = (sums << r & full) | sums >> (q - r)
        allowed = turned & 1 == 0
        yield (sums | turned)[allowed], ways[allowed]
