"""Functions drawn from a network's prior: how often each number of ones, or each function, comes up."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num, UInt8

from occamnets import boolean, chunks
from occamnets.nets import Network, outputs

CHUNK = 2**20
"""Numbers in the widest layer of one chunk; with its four bytes each, it fits a processor's cache."""
MERGE = 2**19
"""Functions held before they are sorted into the distinct ones."""


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

    def unpacked(self) -> Bool[np.ndarray, "functions points"]:
        """The truth tables as Boolean rows."""
        return boolean.unpack(self.tables, self.n)


def count_ones(
    net: Network,
    inputs: Num[np.ndarray, "points n"],
    draws: int,
    *,
    stream: np.random.SeedSequence,
    device: str = "cpu",
) -> Int[np.ndarray, " counts"]:
    """How many of ``draws`` networks are 1 on exactly ``t`` of the inputs, for t = 0 ... points.

    A network is 1 where its output is positive: ``1(0) = 0``, as in Mingard et al. 2019. Memory does not grow with
    ``draws``.
    """
    points = len(inputs)
    task = partial(_ones, net, np.asarray(inputs, dtype=np.float32))
    parts = chunks.run(task, draws, _chunk(net, points), stream=stream, device=device, label="P(t)")
    return sum(parts, np.zeros(points + 1, dtype=np.int64))


def count_functions(
    net: Network,
    draws: int,
    *,
    stream: np.random.SeedSequence,
    t: int | None = None,
    device: str = "cpu",
) -> Functions:
    """The distinct functions on ``{0,1}^n`` among ``draws`` networks.

    With ``t``, only those that are 1 on exactly ``t`` inputs. Memory grows with the number of distinct functions kept,
    not with ``draws``. ``ValueError`` if ``t`` is impossible.
    """
    n = net.layers[0].fan_in
    if t is not None and not 0 <= t <= 2**n:
        raise ValueError(f"t = {t}: a function of {n} inputs is 1 on 0 to {2**n} of them")
    task = partial(_tables, net, boolean.cube(n).astype(np.float32), t)
    empty = np.zeros((0, max(1, 2**n // 8)), dtype=np.uint8)
    tables, counts, waiting, held = empty, np.zeros(0, dtype=np.int64), [], 0
    for part in chunks.run(task, draws, _chunk(net, 2**n), stream=stream, device=device, label="P(f)"):
        waiting.append(part)
        held += len(part)
        if held >= max(MERGE, len(tables)):
            tables, counts = _merge(tables, counts, np.concatenate(waiting))
            waiting, held = [], 0
    tables, counts = _merge(tables, counts, np.concatenate([empty, *waiting]))
    order = np.argsort(-counts, kind="stable")
    return Functions(tables[order], counts[order], draws, n)


def _chunk(net: Network, points: int) -> int:
    return max(1, CHUNK // (points * max(layer.fan_out for layer in net.layers)))


def _positive(
    net: Network, inputs: Float[np.ndarray, "points n"], count: int, gen: torch.Generator
) -> Bool[torch.Tensor, "count points"]:
    if net.layers[-1].fan_out != 1:
        raise ValueError(f"a Boolean function needs 1 output; the network has {net.layers[-1].fan_out}")
    return outputs(net, torch.as_tensor(inputs, device=gen.device), count, gen=gen)[:, 0] > 0


def _ones(net: Network, inputs: Float[np.ndarray, "points n"], count: int, gen: torch.Generator) -> np.ndarray:
    t = _positive(net, inputs, count, gen).sum(dim=1)
    return torch.bincount(t, minlength=len(inputs) + 1).cpu().numpy()


def _tables(
    net: Network, inputs: Float[np.ndarray, "points n"], t: int | None, count: int, gen: torch.Generator
) -> UInt8[np.ndarray, "kept bytes"]:
    tables = _positive(net, inputs, count, gen)
    return boolean.pack((tables if t is None else tables[tables.sum(dim=1) == t]).cpu().numpy())


def _merge(
    tables: UInt8[np.ndarray, "old bytes"], counts: Int[np.ndarray, " old"], drawn: UInt8[np.ndarray, "new bytes"]
) -> tuple[UInt8[np.ndarray, "all bytes"], Int[np.ndarray, " all"]]:
    rows = np.ascontiguousarray(np.concatenate([tables, drawn])).view(f"V{drawn.shape[1]}")[:, 0]
    weights = np.concatenate([counts, np.ones(len(drawn), dtype=np.int64)])
    distinct, which = np.unique(rows, return_inverse=True)
    total = np.bincount(which, weights=weights, minlength=len(distinct)).astype(np.int64)
    return distinct.view(np.uint8).reshape(-1, drawn.shape[1]), total
