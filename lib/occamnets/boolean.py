"""Boolean functions: one order of inputs, one truth-table type, one bit-packing.

A function ``f: {0,1}^n -> {0,1}`` is its truth table, a Boolean array whose last axis has length ``2**n``. Entry ``i``
is the value at the input whose coordinates ``x_1 ... x_n`` are the binary digits of ``i``, most significant first. This
is the order of the published code for Valle-Perez et al. 2018. Packed, the table is ``ceil(2**n / 8)`` bytes.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from jaxtyping import Bool, Int, Int8, UInt8


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
    if packed.shape[-1] != max(1, 2**n // 8):
        raise ValueError(
            f"{packed.shape[-1]} bytes do not hold a truth table of n = {n} inputs: {max(1, 2**n // 8)} do"
        )
    return np.unpackbits(packed, axis=-1, count=2**n).astype(bool)


def ones(packed: UInt8[np.ndarray, "*batch bytes"]) -> Int[np.ndarray, "*batch"]:
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
