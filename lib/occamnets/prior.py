"""Functions drawn from a network's prior: how often each number of ones, or each function, comes up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from math import gcd
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import joblib
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num, UInt8, UInt64

from occamnets import boolean, chunks
from occamnets.nets import Network, outputs

BLOCK = 2_000_000
"""Bytes of the widest layer of the networks that are worked on together; a processor's cache holds them."""
CHUNK = 128
"""Blocks of one chunk."""
MERGE = 2**22
"""Rows sorted together when the functions of all chunks are brought together."""
SLOTS = 256
"""Ranges of the hash into which they are parted for that."""


class Functions(NamedTuple):
    """Distinct functions and how often each was drawn, the most frequent first."""

    tables: UInt8[np.ndarray, "functions bytes"]
    """packed truth tables (`occamnets.boolean.pack`)"""
    counts: Int[np.ndarray, " functions"]
    """draws of each function"""
    draws: int
    """networks drawn in all, also those that were not kept"""
    n: int
    """number of inputs"""
    distinct: int
    """functions drawn, also those drawn too seldom to be kept"""

    def unpacked(self) -> Bool[np.ndarray, "functions points"]:
        """The truth tables as Boolean rows."""
        return boolean.unpack(self.tables, self.n)


class _Rows(NamedTuple):
    """The distinct functions of a chunk, in the order of their hash."""

    words: UInt64[np.ndarray, "rows words"]
    """packed truth tables, filled up with zero bytes"""
    counts: Int[np.ndarray, " rows"]
    """draws of each"""
    starts: Int[np.ndarray, " slots"]
    """the first row of each slot of the hash, and the number of rows"""


def count_ones(
    net: Network,
    inputs: Num[np.ndarray, "points n"],
    draws: int,
    *,
    stream: np.random.SeedSequence,
    device: str = "cpu",
    folder: Path | None = None,
) -> Int[np.ndarray, " counts"]:
    """How many of ``draws`` networks are 1 on exactly ``t`` of the inputs, for t = 0 ... points.

    A network is 1 where its output is positive: ``1(0) = 0``, as in Mingard et al. 2019. Memory does not grow with
    ``draws``. With a ``folder``, a call that was killed can be made again (`occamnets.chunks.store`).
    """
    task, size = partial(_ones, net, np.asarray(inputs, dtype=np.float32)), CHUNK * _block(net, len(inputs))
    parts = chunks.run(task, draws, size, stream=stream, device=device, folder=folder, label="P(t)")
    return sum(parts, np.zeros(len(inputs) + 1, dtype=np.int64))


def count_functions(
    net: Network,
    draws: int,
    *,
    stream: np.random.SeedSequence,
    t: int | None = None,
    at_least: int = 1,
    device: str = "cpu",
    folder: Path | None = None,
) -> Functions:
    """The functions on ``{0,1}^n`` that came up ``at_least`` so many times among ``draws`` networks, counted exactly.

    With ``t``, only those that are 1 on exactly ``t`` inputs. Memory grows with the functions given back, not with
    ``draws``; what each chunk drew lies on disk until the end, at most ``8 + 2**n / 8`` bytes a network (16 if n < 6),
    in ``folder`` or else where ``tempfile`` puts it. With a ``folder``, a call that was killed can be made again
    (`occamnets.chunks.store`). ``ValueError`` if ``t`` is impossible or ``at_least`` below 1.
    """
    n = net.layers[0].fan_in
    if t is not None and not 0 <= t <= 2**n:
        raise ValueError(f"t = {t}: a function of {n} inputs is 1 on 0 to {2**n} of them")
    if at_least < 1:
        raise ValueError(f"at_least = {at_least}: a function that came up did so 1 time or more")
    task, size = partial(_functions, net, t), CHUNK * _block(net, 2**n)
    with TemporaryDirectory(prefix="occamnets-") as temporary:
        where = folder or Path(temporary)
        paths = chunks.store(task, draws, size, stream=stream, device=device, folder=where, label="P(f)")
        kept, distinct = [], 0
        for words, counts in _merged(paths):
            often = np.flatnonzero(counts >= at_least)
            kept.append((words.take(often, axis=0), counts.take(often)))
            distinct += len(counts)
    words, counts = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    order = np.argsort(-counts, kind="stable")
    tables = words.take(order, axis=0).view(np.uint8)[:, : max(1, 2**n // 8)]
    return Functions(tables, counts[order], draws, n, distinct)


def _block(net: Network, points: int) -> int:
    """Networks that are worked on together."""
    if net.layers[-1].fan_out != 1:
        raise ValueError(f"a Boolean function needs 1 output; the network has {net.layers[-1].fan_out}")
    bytes_each = points * (1 if len(net.layers) == 1 else 4 * max(layer.fan_out for layer in net.layers))
    return max(1, BLOCK // bytes_each)


def _values(
    net: Network, inputs: Float[np.ndarray, "points n"], count: int, gen: torch.Generator
) -> Iterator[UInt8[torch.Tensor, "points block"]]:
    """0 or 1: the values on all inputs of ``count`` networks, a block of networks at a time."""
    n, block = net.layers[0].fan_in, _block(net, len(inputs))
    blocks = (min(block, count - start) for start in range(0, count, block))
    if len(net.layers) == 1 and n > 3 and inputs.shape == (2**n, n) and np.array_equal(inputs, boolean.cube(n)):
        above = _subset_sums(net, blocks, gen)
    else:
        points = torch.tensor(inputs, device=gen.device)  # a copy: joblib hands large arrays over read-only
        above = ((outputs(net, points, many, gen=gen)[:, 0] > 0).T for many in blocks)
    return (values.view(torch.uint8) for values in above)


def _subset_sums(
    net: Network, blocks: Iterable[int], gen: torch.Generator
) -> Iterator[Bool[torch.Tensor, "points block"]]:
    """Where a perceptron's sum over a subset of its weights is positive, for all subsets.

    It is a sum over some of the first ``n - 3`` weights plus one over some of the last three, and positive where the
    one exceeds the negative of the other: a comparison a subset, and hardly an addition.
    """
    (layer,) = net.layers
    halves = (boolean.cube(layer.fan_in - 3), -boolean.cube(3))
    first, last = (layer.weight_sd * torch.as_tensor(half, device=gen.device).float() for half in halves)
    for many in blocks:
        weights = net.law((many, 1, layer.fan_in), gen)[:, 0].T.float()
        high, low = first @ weights[:-3], last @ weights[-3:]
        if layer.bias_sd:
            high += layer.bias_sd * net.law((many, 1, 1), gen)[:, 0].T.float()
        if gen.device.type == "cpu":  # where NumPy compares six times faster than torch
            yield torch.from_numpy(np.greater(high.numpy()[:, None], low.numpy())).flatten(0, 1)
        else:
            yield (high[:, None] > low).flatten(0, 1)


def _ones(net: Network, inputs: Float[np.ndarray, "points n"], count: int, gen: torch.Generator) -> np.ndarray:
    total = torch.zeros(len(inputs) + 1, dtype=torch.int64, device=gen.device)
    few = gcd(len(inputs), 128)  # ones of so many inputs fit a byte
    for values in _values(net, inputs, count, gen):
        t = values.unflatten(0, (few, -1)).sum(dim=0, dtype=torch.uint8).sum(dim=0, dtype=torch.int32)
        total += torch.bincount(t, minlength=len(total))
    return total.cpu().numpy()


def _functions(net: Network, t: int | None, count: int, gen: torch.Generator) -> _Rows:
    n = net.layers[0].fan_in
    packed = [_pack(values) for values in _values(net, boolean.cube(n).astype(np.float32), count, gen)]
    tables = np.concatenate(packed)
    tables = tables if t is None else tables[boolean.ones(tables) == t]
    words = np.zeros((len(tables), -(-tables.shape[1] // 8)), dtype=np.uint64)
    words.view(np.uint8)[:, : tables.shape[1]] = tables
    words, counts = _distinct(words, np.ones(len(words), dtype=np.int64))
    starts = np.searchsorted(_hash(words), np.arange(SLOTS, dtype=np.uint64) * np.uint64(2**64 // SLOTS))
    return _Rows(words, counts, np.append(starts, len(words)))


def _pack(values: UInt8[torch.Tensor, "points block"]) -> UInt8[np.ndarray, "block bytes"]:
    """Eight inputs a byte, as `occamnets.boolean.pack` does it."""
    if len(values) % 8:
        values = torch.nn.functional.pad(values, (0, 0, 0, -len(values) % 8))
    eights = values.unflatten(0, (-1, 8))
    packed = eights[:, 0]
    for bit in range(1, 8):
        packed = torch.add(eights[:, bit], packed, alpha=2)
    return packed.cpu().numpy().T


def _merged(
    paths: list[Path],
) -> Iterator[tuple[UInt64[np.ndarray, "functions words"], Int[np.ndarray, " functions"]]]:
    """The distinct functions of all chunks and their counts, some slots of the hash at a time."""
    sizes = sum(joblib.load(path).starts for path in paths)
    cuts = np.unique([0, *np.searchsorted(sizes, np.arange(MERGE, sizes[-1], MERGE)), SLOTS])
    for first, last in pairwise(cuts.tolist()):
        parts = [_between(joblib.load(path, mmap_mode="r"), first, last) for path in paths]
        words, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        yield (words, counts) if len(parts) == 1 else _distinct(words, counts)


def _between(
    rows: _Rows, first: int, last: int
) -> tuple[UInt64[np.ndarray, "between words"], Int[np.ndarray, " between"]]:
    """The rows of some slots; copies, so that not all files are open at once."""
    here = slice(*rows.starts[[first, last]])
    return np.array(rows.words[here]), np.array(rows.counts[here])


def _hash(words: UInt64[np.ndarray, "rows words"]) -> UInt64[np.ndarray, " rows"]:
    """A row's words mixed one after another, by the steps of splitmix64 (Steele, Lea and Flood 2014, Stafford's)."""
    mixed = np.zeros(len(words), dtype=np.uint64)
    for word in words.T:
        mixed ^= word
        for factor, shift in ((0xBF58476D1CE4E5B9, 27), (0x94D049BB133111EB, 31)):
            mixed *= np.uint64(factor)
            mixed ^= mixed >> np.uint64(shift)
    return mixed


def _distinct(
    words: UInt64[np.ndarray, "rows words"], counts: Int[np.ndarray, " rows"]
) -> tuple[UInt64[np.ndarray, "distinct words"], Int[np.ndarray, " distinct"]]:
    """Equal rows made one, their counts added; in the order of the hash."""
    if not len(words):
        return words, counts
    mixed = _hash(words)
    order = np.argsort(mixed)
    rows = words.take(order, axis=0)
    new = np.any([column[1:] != column[:-1] for column in rows.T], axis=0)
    mixed = mixed.take(order)
    if (new & (mixed[1:] == mixed[:-1])).any():  # two functions with one hash
        again = np.lexsort((*rows.T, mixed))
        order, rows = order.take(again), rows.take(again, axis=0)
        new = (rows[1:] != rows[:-1]).any(axis=1)
    firsts = np.flatnonzero(np.append(True, new))
    return rows.take(firsts, axis=0), np.add.reduceat(counts.take(order), firsts)
