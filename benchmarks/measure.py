"""How long calls take, what this machine could do at best, and works in processes of their own."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import joblib
import torch

from benchmarks.works import POINTS, WIDTHS, Cost, Work, multiplications, parameters
from occamnets import train

ROOT = Path(__file__).parents[1]
CORES = joblib.cpu_count()


def seconds(call: Callable[[], Any]) -> float:
    """That a call takes."""
    start = perf_counter()
    call()
    return perf_counter() - start


def fastest(benchmark: Any, ours: Callable[[], Any], others: list[Callable[[], Any]], *, rounds: int) -> list[float]:
    """Seconds of the fastest of some rounds, of ours and of the others; each round calls all others, then ours."""
    taken = []
    benchmark.pedantic(ours, setup=lambda: taken.append([seconds(call) for call in others]), rounds=rounds)
    return [benchmark.stats.stats.min, *map(min, zip(*taken, strict=True))]


@contextmanager
def threads(count: int):
    """So many threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> tuple[list[Callable[[], Any]], Cost]:
    """What one thread is at its best at: three calls, and how much of each cost they cover.

    Normals into a cache; the product of two large matrices; a copy within the cache, of the parameters that `train`
    holds at a time.
    """
    few, many, all_parameters = torch.empty(2**18), torch.randn(2, 1024, 1024), train.CHUNK * parameters(WIDTHS)
    product, copied = torch.empty(1024, 1024), torch.empty(2, all_parameters)

    def repeated(times: int, call: Callable[[], Any]) -> Callable[[], None]:
        def several() -> None:
            with threads(1):
                for _ in range(times):
                    call()

        return several

    calls = [
        repeated(50, few.normal_),
        repeated(2, lambda: torch.mm(*many, out=product)),
        repeated(200, lambda: copied[1].copy_(copied[0])),
    ]
    return calls, Cost(50 * len(few), 2 * 2 * 1024**3, 200 * 2 * 4 * all_parameters)


def least(cost: Cost, covered: Cost, taken: list[float]) -> float:
    """Seconds that a cost takes at the least, at the rates of a machine that covered some cost in the time taken."""
    return sum(part * time / whole for part, whole, time in zip(cost, covered, taken, strict=True))


def profile(work: Work, size: int) -> dict[str, float]:
    """Seconds that the parts of a training take."""
    spent: Counter[str] = Counter()

    def timed(part: str, call: Callable) -> Callable:
        @wraps(call)
        def measured(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            result = call(*args, **kwargs)
            spent[part] += perf_counter() - start
            return result

        return measured

    value, wrong = train.CROSS_ENTROPY
    with (
        patch.object(train, "forward", timed("forward", train.forward)),
        patch.object(train, "CROSS_ENTROPY", train.Loss(timed("loss", value), timed("looking for zero error", wrong))),
        patch.object(torch.Tensor, "backward", timed("backward", torch.Tensor.backward)),
        patch.object(torch.optim.Adam, "step", timed("optimiser", torch.optim.Adam.step)),
    ):
        whole = seconds(lambda: work.ours(size))
    return {**spent, "the rest": whole - spent.total(), "all": whole}


def floors(work: Work) -> dict[str, Cost]:
    """What the parts of a training step of one network cannot do without."""
    forward = 2 * POINTS * multiplications(WIDTHS)
    return {
        "forward": Cost(flops=forward),
        "backward": Cost(flops=work.cost.flops - forward),
        "optimiser": Cost(traffic=work.cost.traffic),
        "all": work.cost,
    }


def process(name: str, size: int) -> subprocess.Popen[str]:
    """A process of its own for a work, warm and waiting (`benchmarks.fresh`)."""
    command = [sys.executable, "-m", "benchmarks.fresh", name, str(size)]
    started = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    started.stdout.readline()
    return started


def together(processes: list[subprocess.Popen[str]]) -> list[float | None]:
    """Let all processes do their work once, at the same time; the peak of memory of each, in MB."""
    for each in processes:
        print(file=each.stdin, flush=True)
    return [json.loads(each.stdout.readline()) for each in processes]


def facts() -> str:
    """The processor, its cores, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "joblib"))
    return (
        f"{models[0] if models else platform.processor()}, {CORES} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {names}"
    )
