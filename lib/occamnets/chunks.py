"""Long Monte Carlo work, cut into chunks that each have a seed of their own and run through joblib.

The seeds depend on the stream and the chunk's number alone, so a call gives the same numbers on one core or on many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

Result = TypeVar("Result")


def generator(stream: np.random.SeedSequence, device: str = "cpu") -> torch.Generator:
    """A torch generator on ``device``, seeded from ``stream``."""
    return torch.Generator(device).manual_seed(int(stream.generate_state(1, np.uint64)[0] >> 1))


def run(
    work: Callable[[int, torch.Generator], Result],
    draws: int,
    size: int,
    *,
    stream: np.random.SeedSequence,
    device: str = "cpu",
    label: str = "",
) -> Iterable[Result]:
    """``work(count, generator)`` for chunks of ``size`` draws that add up to ``draws``; results in order, as they come.

    Runs on joblib's backend: one process unless a ``joblib.parallel_config`` says otherwise, and one torch thread a
    chunk. A progress bar goes to standard error (switched off by ``TQDM_DISABLE=1``). ``ValueError`` if ``draws`` or
    ``size`` is below 1.
    """
    if draws < 1 or size < 1:
        raise ValueError(f"draws = {draws}, size = {size}: both must be 1 or more")
    starts = range(0, draws, size)
    seeds = (np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key, i)) for i in range(len(starts)))
    tasks = (
        delayed(_one)(work, min(size, draws - start), seed, device) for start, seed in zip(starts, seeds, strict=True)
    )
    results = Parallel(return_as="generator")(tasks)
    return tqdm(results, total=len(starts), desc=label, unit="chunk", leave=False)


def _one(
    work: Callable[[int, torch.Generator], Result], count: int, seed: np.random.SeedSequence, device: str
) -> Result:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work(count, generator(seed, device))
    finally:
        torch.set_num_threads(threads)
