"""What a notebook is told from outside, read once: the scale, the seed and the device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

SCALES = ("book", "paper")
DEVICES = ("cpu", "cuda")
CHUNKS = Path(__file__).parents[2] / "_build" / "chunks"
"""Where runs at paper scale keep their finished chunks.

:meta hide-value:
"""
Size = TypeVar("Size")


class Settings(NamedTuple):
    """The three things that may change between runs of one notebook."""

    scale: str
    """``book`` (a laptop's minute) or ``paper`` (larger sizes, the papers' where one machine reaches them)"""
    seed: int
    """0 in the printed book"""
    device: str
    """``cpu`` or ``cuda``"""

    def size(self, *, book: Size, paper: Size) -> Size:
        """The size that belongs to the scale."""
        return {"book": book, "paper": paper}[self.scale]

    @property
    def folder(self) -> Path | None:
        """For finished chunks (`occamnets.chunks.store`), so that a killed run goes on; none at book scale."""
        return self.size(book=None, paper=CHUNKS)

    def stream(self, name: str) -> np.random.SeedSequence:
        """The seeds of the experiment called ``name``: they depend on the name and on ``OCCAM_SEED`` alone."""
        return np.random.SeedSequence([self.seed, int.from_bytes(sha256(name.encode()).digest()[:8], "big")])


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from ``OCCAM_SCALE``, ``OCCAM_SEED`` and ``OCCAM_DEVICE``; ``ValueError`` says what is wrong with one.

    >>> load({"OCCAM_SEED": "3"})
    Settings(scale='book', seed=3, device='cpu')
    """
    scale = environment.get("OCCAM_SCALE", "book")
    seed = environment.get("OCCAM_SEED", "0")
    device = environment.get("OCCAM_DEVICE", "cpu")
    if scale not in SCALES:
        raise ValueError(f"OCCAM_SCALE={scale!r}: the scale is one of {', '.join(SCALES)}")
    if not seed.isdecimal():
        raise ValueError(f"OCCAM_SEED={seed!r}: the seed is a whole number, 0 or more")
    if device not in DEVICES:
        raise ValueError(f"OCCAM_DEVICE={device!r}: the device is one of {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("OCCAM_DEVICE='cuda', but torch finds no GPU here: unset it, or install a CUDA build of torch")
    return Settings(scale, int(seed), device)
