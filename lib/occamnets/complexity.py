"""How simple is a Boolean function? Lempel-Ziv complexity of its truth table, and the entropy of its class balance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import entropy as shannon

from occamnets.boolean import cube

BLOCK = 4096
"""Strings parsed together: keeps the run-length table of 128-bit strings near one megabyte."""


def balance_entropy(t: Int[np.ndarray | np.int64, "*batch"], points: int) -> Float[np.ndarray | np.float64, "*batch"]:
    """``H_2(t / points)`` in bits: the entropy of the class balance of a function that is 1 on ``t`` of ``points``.

    It says nothing else about the function. (Mingard et al. 2019, section 3)

    >>> balance_entropy(np.array([0, 4, 8]), 8).tolist()
    [0.0, 1.0, 0.0]
    """
    share = np.asarray(t) / points
    return shannon(np.stack([share, 1 - share]), base=2, axis=0)


def lz76_words(strings: Bool[np.ndarray, "batch length"]) -> Int[np.ndarray, " batch"]:
    """Words in the exhaustive history of each string, the last one counted even when incomplete.

    Each word is the shortest that does not occur in what comes before its own last letter; a copy may overlap the word
    that it copies. (Lempel & Ziv 1976)

    >>> lz76_words(np.array([[c == "1" for c in "0001101001000101"]])).tolist()  # 0.001.10.100.1000.101
    [6]
    """
    return np.concatenate([_words(strings[i : i + BLOCK]) for i in range(0, max(1, len(strings)), BLOCK)])


def _words(strings: Bool[np.ndarray, "batch length"]) -> Int[np.ndarray, " batch"]:
    letters = np.ascontiguousarray(strings.T)
    length, batch = letters.shape
    run = np.zeros((length, batch), dtype=np.min_scalar_type(length))  # run[d-1]: how long i repeats what is d before
    step = np.ones((length, batch), dtype=np.int64)  # step[i]: length of a word that starts at i
    for i in range(length - 1, 0, -1):
        run[:i] += 1
        run[:i] *= letters[i - 1 :: -1] == letters[i]
        step[i] += run[:i].max(axis=0)
    words, position, columns = np.zeros(batch, dtype=np.int64), np.zeros(batch, dtype=np.int64), np.arange(batch)
    while (going := position < length).any():
        words += going
        position += going * step[np.minimum(position, length - 1), columns]
    return words


def lz_complexity(strings: Bool[np.ndarray, "batch length"]) -> Float[np.ndarray, " batch"]:
    """``K`` of Dingle et al. 2018, in bits: ``log2(length)`` times the mean number of LZ76 words of string and reverse.

    A constant string has ``K = log2(length)`` by definition. ``ValueError`` for strings of fewer than two letters.

    >>> lz_complexity(np.array([[0] * 8, [0, 0, 0, 0, 1, 1, 1, 1]], dtype=bool)).tolist()
    [3.0, 9.0]
    """
    length = strings.shape[-1]
    if length < 2:
        raise ValueError(f"a string of length {length} has no Lempel-Ziv complexity: at least 2 letters are needed")
    words = (lz76_words(strings) + lz76_words(strings[:, ::-1])) / 2
    constant = (strings == strings[:, :1]).all(axis=1)
    return np.log2(length) * np.where(constant, 1.0, words)


def formula_sizes(n: int) -> dict[int, int]:
    """The fewest binary connectives (and, or; negation is free) in a formula of each Boolean function of ``n`` inputs.

    Keys are truth tables read as binary numbers, first entry highest. Found by exhaustion: each level combines all
    pairs of functions whose formulas have one connective fewer between them. ``ValueError`` unless ``1 <= n <= 3``.
    (``K_Bool`` of Mingard et al. 2019)

    >>> formula_sizes(2)[0b0110], formula_sizes(2)[0b0001]
    (3, 1)
    """
    if not 1 <= n <= 3:
        raise ValueError(f"n = {n}: shortest formulas are found by exhaustion, for n from 1 to 3")
    full = 2**2**n - 1
    literals = [int("".join(map(str, x)), 2) for x in cube(n).T]
    levels = [{f ^ flip for f in literals for flip in (0, full)}]
    known = set(levels[0])
    while len(known) < 2**2**n:
        made = {a & b for left, right in zip(levels, reversed(levels), strict=True) for a in left for b in right}
        levels.append((made | {full ^ f for f in made}) - known)
        known |= levels[-1]
    return {f: size for size, level in enumerate(levels) for f in level}
