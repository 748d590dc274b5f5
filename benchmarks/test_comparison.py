"""Each work against the plain way and against the machine's limit; its memory; two workers."""

from __future__ import annotations

from functools import partial
from time import perf_counter

import joblib
import pytest

from benchmarks import measure
from benchmarks.works import WORKS


def test_machine(add):
    """What all this was measured on."""
    add("machine", "", measure.facts())


@pytest.mark.parametrize("name", WORKS)
def test_speed(name, benchmark, add):
    """Ours on one thread; the plain way on one and on all, of which the faster counts; the limit of one thread."""
    work, (rates, covered) = WORKS[name], measure.machine()

    def plain(threads: int) -> None:
        with measure.threads(threads):
            work.plain(work.plain_size)

    others = [partial(plain, 1), partial(plain, measure.CORES), *rates]
    ours, one, all_cores, *taken = measure.fastest(benchmark, partial(work.ours, work.size), others, rounds=3)
    with measure.process(name, work.size) as alone:
        (peak,) = measure.together([alone])
    add(
        f"speed/{name}",
        f"{work.unit}/s",
        f"{work.size:,}; plain way {work.plain_size:,}, threads: {measure.CORES if all_cores < one else 1}",
        ours=work.size * work.units / ours,
        baseline=work.plain_size * work.units / min(one, all_cores),
        limit=1 / measure.least(work.cost, covered, taken),
        peak_mb=peak,
    )


def test_parts_of_training(add):
    """Where a step of training spends its time."""
    work, (rates, covered) = WORKS["training"], measure.machine()
    taken = [min(measure.seconds(call) for _ in range(3)) for call in rates]
    parts = min((measure.profile(work, work.size) for _ in range(3)), key=lambda parts: parts["all"])
    floors = measure.floors(work)
    for part, spent in parts.items():
        least = 1e6 * measure.least(floors[part], covered, taken) if part in floors else None
        add(f"profile/{part}", "µs", ours=1e6 * spent / (work.size * work.units), limit=least)


@pytest.mark.parametrize("power", [6, 7, 8, 9])
def test_memory(power, add, pytestconfig):
    """Of a fresh process that counts; a thousand million draws for the record alone."""
    if power == 9 and not pytestconfig.getoption("record"):
        pytest.skip("takes a minute or two: only with --record")
    with measure.process("perceptron counts", 10**power) as alone:
        start = perf_counter()
        (peak,) = measure.together([alone])
        rate = 10**power / (perf_counter() - start)
    add(f"memory/1e{power}", "draws/s", ours=rate, peak_mb=peak)


@pytest.mark.parametrize("name", ["perceptron counts", "network functions", "training"])
def test_two_workers(name, benchmark, add):
    """Two workers, already started, against one; the limit is what two independent processes reach."""
    work = WORKS[name]
    ours = partial(work.ours, work.size)

    def two() -> None:
        with joblib.parallel_config(n_jobs=2):
            ours()

    two()
    with measure.process(name, work.size) as left, measure.process(name, work.size) as right:
        others = [ours, partial(measure.together, [left, right])]
        shared, alone, apart = measure.fastest(benchmark, two, others, rounds=3)
    one, both = work.size * work.units, 2 * work.size * work.units
    add(f"two workers/{name}", f"{work.unit}/s", ours=one / shared, baseline=one / alone, limit=both / apart)
