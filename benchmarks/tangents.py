"""The tangent kernel of one network, in a process of its own: layer by layer, or from a Jacobian as one would write it.

``python -m benchmarks.tangents WAY POINTS WIDTH OUTS PAIRS CALLS`` says how many seconds the fastest call took, and how
much memory the first one needed beyond what the process held before.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import joblib
import numpy as np
import torch

from benchmarks.works import STREAM
from occamnets import chunks, nets, tangent

INPUTS = 64
"""Of the network, which has three hidden layers."""


class Size(NamedTuple):
    """Of one kernel."""

    points: int = 256
    width: int = 512
    outs: int = 1
    pairs: bool = False
    """all pairs of outputs rather than the mean over outputs"""


def ours(size: Size) -> Callable[[], np.ndarray]:
    """With the library."""
    net, parameters, points = drawn(size)
    return lambda: tangent.kernel(net, parameters, points, parameterisation="standard", full=size.pairs)[0]


def plain(size: Size) -> Callable[[], np.ndarray]:
    """The Jacobian of every point, and its product with itself, a layer's weights at a time."""
    _, parameters, points = drawn(size)

    def answer(weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        for matrix in weights[:-1]:
            x = (matrix @ x).relu()
        return weights[-1] @ x

    def kernel() -> np.ndarray:
        weights = [layer.weights[0] for layer in parameters]
        layers = torch.vmap(torch.func.jacrev(answer), (None, 0))(weights, torch.from_numpy(points))
        if not size.pairs:
            return (sum(gram(layer.flatten(1)) for layer in layers) / size.outs).numpy()
        product = sum(gram(layer.flatten(0, 1).flatten(1)) for layer in layers)
        return product.unflatten(1, (-1, size.outs)).unflatten(0, (-1, size.outs)).transpose(1, 2).numpy()

    return kernel


def gram(rows: torch.Tensor) -> torch.Tensor:
    """Of the rows with each other; a function, so that a copy of a layer's Jacobian is let go before the next one."""
    return rows @ rows.T


def drawn(size: Size) -> tuple[nets.Network, list[nets.Parameters], np.ndarray]:
    """A random ReLU network, and points in single precision."""
    net = nets.dense((INPUTS, *[size.width] * 3, size.outs), sigma_w=2**0.5)
    points = np.random.default_rng(STREAM).standard_normal((size.points, INPUTS)).astype(np.float32)
    return net, nets.draw(net, 1, gen=chunks.generator(STREAM)), points


WAYS = {"ours": ours, "plain": plain}


def measured(way: str, size: Size, calls: int) -> tuple[float, float | None]:
    """Seconds and MB, from a process of its own with all cores."""
    command = [sys.executable, "-m", "benchmarks.tangents", way, *(str(int(number)) for number in (*size, calls))]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    return tuple(json.loads(done.stdout))


def held_mb(field: str) -> float | None:
    """Memory that this process holds (``VmRSS``) or has held at most (``VmHWM``), in millions of bytes."""
    status = Path("/proc/self/status")
    return int(re.search(rf"{field}:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6 if status.exists() else None


def main(way: str, *numbers: str) -> None:
    """What a process of its own does."""
    *size, calls = map(int, numbers)
    size, taken = Size(*size[:3], bool(size[3])), []
    torch.set_num_threads(joblib.cpu_count())
    WAYS[way](size._replace(points=8))()
    call = WAYS[way](size)
    before = held_mb("VmRSS")
    if before is not None:
        Path("/proc/self/clear_refs").write_text("5")  # the most held so far is what is held now
    for _ in range(calls):
        start = perf_counter()
        call()
        taken.append(perf_counter() - start)
        if len(taken) == 1:
            extra = None if before is None else held_mb("VmHWM") - before
    print(json.dumps([min(taken), extra]))


if __name__ == "__main__":
    main(*sys.argv[1:])
