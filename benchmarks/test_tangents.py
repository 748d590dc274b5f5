"""The tangent kernel layer by layer against a Jacobian: time, memory, growth."""

from __future__ import annotations

import pytest

from benchmarks import tangents
from benchmarks.tangents import Size

SIZES = {
    "1 output": (Size(), 20, 5),
    "10 outputs, mean": (Size(outs=10), 10, 2),
    "10 outputs, all pairs": (Size(outs=10, pairs=True), 5, 1),
}
"""A kernel, and how many calls of each way."""
GROWTH = {
    **{f"points/{n}": Size(points=n) for n in (32, 64, 128, 256, 512)},
    **{f"neurons/{w}": Size(width=w) for w in (64, 128, 256, 512, 1024)},
    **{f"outputs/{o}": Size(points=64, outs=o, pairs=True) for o in (1, 2, 5, 10, 20)},
}


@pytest.mark.parametrize("name", SIZES)
def test_tangent_kernel(name, add):
    """On all cores."""
    size, calls, plain_calls = SIZES[name]
    ours, ours_mb = tangents.measured("ours", size, calls)
    plain, plain_mb = tangents.measured("plain", size, plain_calls)
    add(f"tangent/{name}", "s", ours=ours, baseline=plain)
    add(f"tangent memory/{name}", "MB", ours=ours_mb, baseline=plain_mb)


@pytest.mark.parametrize("name", GROWTH)
def test_growth_of_tangent_kernel(name, add):
    """On all cores."""
    ours, plain = (tangents.measured(way, GROWTH[name], calls)[0] for way, calls in (("ours", 10), ("plain", 2)))
    add(f"growth/{name}", "s", ours=ours, baseline=plain)
