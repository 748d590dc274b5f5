"""How time grows: with draws, with the inputs, with the width, with workers."""

from __future__ import annotations

from functools import partial

import joblib
import pytest

from benchmarks import measure
from benchmarks.works import network_functions, perceptron_counts, perceptron_functions

GROWTH = {
    **{f"draws/1e{power}": perceptron_counts(7)._replace(size=10**power) for power in (5, 6, 7, 8)},
    **{f"functions/1e{power}": perceptron_functions(7)._replace(size=10**power) for power in (5, 6, 7)},
    **{f"n/{n}": perceptron_counts(n)._replace(size=2**29 // 2**n) for n in (4, 6, 8, 10, 12, 14)},
    **{f"width/{w}": network_functions((7, w, w, 1))._replace(size=10**6 // w) for w in (10, 20, 40, 80, 160, 320)},
}


@pytest.mark.parametrize("name", GROWTH)
def test_growth(name, benchmark, add):
    """One process; the limit is that of one thread."""
    work, (rates, covered) = GROWTH[name], measure.machine()
    ours, *taken = measure.fastest(benchmark, partial(work.ours, work.size), rates, rounds=3)
    limit = 1 / measure.least(work.cost, covered, taken)
    add(f"growth/{name}", f"{work.unit}/s", f"{work.size:,}", ours=work.size / ours, limit=limit)


@pytest.mark.parametrize("workers", [2**power for power in range(max(2, measure.CORES.bit_length()))])
def test_growth_with_workers(workers, benchmark, add):
    """Workers that are already started; the limit is that of so many threads."""
    work, (rates, covered) = perceptron_counts(7), measure.machine()

    def ours() -> None:
        with joblib.parallel_config(n_jobs=workers):
            work.ours(work.size)

    ours()
    shared, *taken = measure.fastest(benchmark, ours, rates, rounds=3)
    limit = workers / measure.least(work.cost, covered, taken)
    add(f"growth/workers/{workers}", f"{work.unit}/s", f"{work.size:,}", ours=work.size / shared, limit=limit)
