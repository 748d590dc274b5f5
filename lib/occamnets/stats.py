"""An estimate with its error, the one decision rule of the book, and the little that SciPy lacks.

Every interval here is wide on purpose: five standard errors, or its match at a two-sided level of 1e-5, so that a
verdict stands when the seed changes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import stats as st
from scipy.optimize import brentq

WIDTH = 5.0
"""Half-width of the decision interval, in standard errors."""
LEVEL = 1e-5
"""Two-sided level of the decision interval where it is not ``WIDTH`` standard errors."""
REJECT = 1e-6
"""p-value below which an exact law is rejected."""
POWER = 0.99
"""Power at which an exact law's detectable total variation is quoted."""

Verdict = Literal["holds", "fails", "undecided"]


class Estimate(NamedTuple):
    """A measured number with its error."""

    value: float
    """the measured value, in the claim's unit"""
    error: float
    """its standard error (0 for an exact number)"""
    low: float
    """lower end of the decision interval"""
    high: float
    """upper end of the decision interval"""
    n: int
    """how many independent units stand behind it"""
    of: str
    """what one independent unit is: a draw, a network, a training run"""
    p_value: float | None = None
    """of the chi-square test, for an exact law"""
    detectable: float | None = None
    """total variation that the test of an exact law finds with power `POWER`"""


class Rule(NamedTuple):
    """What is predicted and how far off it may be; make one with the five functions below."""

    kind: Literal["agreement", "above", "below", "identity", "exact law"]
    """which of the five"""
    predicted: float
    """the prediction, in the claim's unit; 0 for an exact law"""
    delta: float
    """the tolerance, the gap of a direction, or the rounding bound of an identity"""


def agreement(predicted: float, delta: float) -> Rule:
    """``holds`` if the whole interval lies within ``delta`` of the prediction, ``fails`` if all of it lies outside."""
    return _rule("agreement", predicted, delta)


def above(predicted: float, delta: float) -> Rule:
    """``holds`` if the interval lies above ``predicted + delta``, ``fails`` if wholly short of it."""
    return _rule("above", predicted, delta)


def below(predicted: float, delta: float) -> Rule:
    """``holds`` if the interval lies below ``predicted - delta``, ``fails`` if wholly short of it."""
    return _rule("below", predicted, delta)


def identity(predicted: float, bound: float = 0.0) -> Rule:
    """``holds`` if the number equals the prediction up to a stated rounding bound, else ``fails``."""
    return _rule("identity", predicted, bound)


def exact_law(delta: float) -> Rule:
    """For a null that is exactly true: ``fails`` if p < `REJECT`, ``holds`` if a distance ``delta`` would show."""
    return _rule("exact law", 0.0, delta)


def _rule(kind: str, predicted: float, delta: float) -> Rule:
    if not delta >= 0:
        raise ValueError(f"delta = {delta}: the tolerance must be zero or more")
    return Rule(kind, float(predicted), float(delta))


def decide(rule: Rule, estimate: Estimate) -> Verdict:
    """The verdict of one rule on one estimate.

    >>> decide(agreement(0.5, delta=0.1), exact(0.45))
    'holds'
    >>> decide(above(0.0, delta=0.5), exact(0.45))
    'fails'
    """
    kind, predicted, delta = rule
    low, high = estimate.low - predicted, estimate.high - predicted
    if kind == "agreement":
        return _three(-delta <= low and high <= delta, low > delta or high < -delta)
    if kind == "above":
        return _three(low >= delta, high < delta)
    if kind == "below":
        return _three(high <= -delta, low > -delta)
    if kind == "identity":
        return _three(close := abs(estimate.value - predicted) <= delta, not close)
    if kind == "exact law":
        if estimate.p_value is None or estimate.detectable is None:
            raise ValueError("an exact law is judged by an estimate made with stats.law_test; this one has no p-value")
        return _three(estimate.p_value >= REJECT and estimate.detectable <= delta, estimate.p_value < REJECT)
    raise ValueError(f"no rule of the kind {kind!r}")


def _three(holds: bool, fails: bool) -> Verdict:
    return "holds" if holds else "fails" if fails else "undecided"


def exact(value: float, bound: float = 0.0, *, of: str = "closed form") -> Estimate:
    """A number without sampling error; ``bound`` is its rounding or quadrature bound."""
    return Estimate(float(value), 0.0, float(value) - bound, float(value) + bound, 1, of)


def mean(values: Num[np.ndarray, " k"], counts: Int[np.ndarray, " k"] | None = None, *, of: str = "draw") -> Estimate:
    """The mean over independent draws; value ``i`` was drawn ``counts[i]`` times.

    >>> mean(np.array([0.0, 1.0]), np.array([50, 50])).value
    0.5
    """
    values = np.asarray(values, dtype=np.float64)
    counts = np.ones(len(values), dtype=np.int64) if counts is None else counts
    n = int(counts.sum())
    if n < 2:
        raise ValueError(f"a mean with an error needs 2 draws or more; there are {n}")
    centre = float(values @ counts / n)
    error = float(np.sqrt((values - centre) ** 2 @ counts / (n - 1) / n))
    return Estimate(centre, error, centre - WIDTH * error, centre + WIDTH * error, n, of)


def over_runs(values: Float[np.ndarray, " runs"], *, of: str = "training run") -> Estimate:
    """The mean over a few runs, with a Student interval at `LEVEL`; at least 20 runs."""
    if len(values) < 20:
        raise ValueError(f"{len(values)} runs: the book's rule asks for 20 or more")
    error = float(st.sem(values))
    half = float(st.t.isf(LEVEL / 2, len(values) - 1)) * error
    centre = float(np.mean(values))
    return Estimate(centre, error, centre - half, centre + half, len(values), of)


def proportion(successes: int | np.integer, n: int | np.integer, *, of: str = "draw") -> Estimate:
    """A probability from a count of successes, with the Clopper-Pearson interval at `LEVEL`.

    >>> proportion(0, 10).low
    0.0
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes out of {n}: need 0 <= successes <= n and n >= 1")
    interval = st.binomtest(int(successes), int(n)).proportion_ci(1 - LEVEL)
    share = successes / n
    return Estimate(share, float(np.sqrt(share * (1 - share) / n)), interval.low, interval.high, int(n), of)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """``a - b`` for independent estimates: five standard errors, or both intervals in quadrature where that is wider.

    ``n`` and its unit are those of the smaller sample; an exact number counts as no sample.
    """
    value, error = a.value - b.value, float(np.hypot(a.error, b.error))
    below = max(WIDTH * error, float(np.hypot(a.value - a.low, b.high - b.value)))
    above = max(WIDTH * error, float(np.hypot(a.high - a.value, b.value - b.low)))
    smaller = min((e for e in (a, b) if e.error > 0), key=lambda e: e.n, default=a)
    return Estimate(value, error, value - below, value + above, smaller.n, smaller.of)


class Pooled(NamedTuple):
    """Neighbouring cells joined until each is expected often enough for a chi-square test."""

    observed: Int[np.ndarray, " pools"]
    """draws seen in each pool"""
    expected: Float[np.ndarray, " pools"]
    """draws expected in each pool"""


def pool(counts: Int[np.ndarray, " cells"], expected: Float[np.ndarray, " cells"], least: float = 5.0) -> Pooled:
    """Join neighbouring cells until each expects ``least`` draws or more; the last, too small, joins the one before.

    >>> pool(np.array([1, 9, 10]), np.array([2.0, 8.0, 10.0])).observed.tolist()
    [10, 10]
    """
    starts, filled = [0], 0.0
    for cell, amount in enumerate(expected):
        if filled >= least:
            starts.append(cell)
            filled = 0.0
        filled += amount
    if filled < least and len(starts) > 1:
        starts.pop()
    return Pooled(np.add.reduceat(counts, starts), np.add.reduceat(expected, starts))


def total_variation(p: Float[np.ndarray, " cells"], q: Float[np.ndarray, " cells"]) -> float:
    """Half the sum of ``|p - q|``: the largest difference in probability that any event can have.

    >>> total_variation(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    0.5
    """
    return float(np.abs(p - q).sum() / 2)


def total_variation_null(law: Float[np.ndarray, " cells"], n: int) -> tuple[float, float]:
    """Mean and standard deviation of the total variation between ``law`` and ``n`` draws from it.

    Each cell's share is taken as normal, the cells as independent: good to a few per cent for ten cells or more that
    expect 5 each. With fewer cells the deviation comes out too small, with two by a factor 0.71.
    """
    spread = np.sqrt(law * (1 - law) / n)
    return float(spread.sum() / np.sqrt(2 * np.pi)), float(np.sqrt((1 - 2 / np.pi) * (spread**2).sum()) / 2)


def law_test(counts: Int[np.ndarray, " counts"], law: Float[np.ndarray, " cells"], *, of: str = "draw") -> Estimate:
    """Chi-square test of counts against a law, as the estimate that `exact_law` judges.

    The value is the total variation between pooled shares and law, its error the spread of that number under the law,
    ``detectable`` the total variation that the test would find with power `POWER` at level `REJECT` whatever its shape:
    by Cauchy-Schwarz the noncentrality is at least ``4 n TV**2``. A count where the law has none gives ``p_value`` 0.
    """
    if len(counts) != len(law) or not np.isclose(law.sum(), 1):
        raise ValueError(f"{len(counts)} counts, a law of {len(law)} cells and sum {law.sum():.6g}: need equal, sum 1")
    n, possible = int(counts.sum()), law > 0
    observed, expected = pool(counts[possible], n * law[possible])
    if len(observed) < 2:
        raise ValueError(f"{n} draws leave one cell that expects 5 or more: too few to test a law")
    impossible = int(counts[~possible].sum())
    degrees = len(observed) - 1
    p_value = float(st.chi2.sf(((observed - expected) ** 2 / expected).sum(), degrees))
    detectable = np.sqrt(_noncentrality(degrees) / (4 * n))
    value = total_variation(observed / n, expected / n) + impossible / (2 * n)
    error = total_variation_null(expected / expected.sum(), n)[1]
    half = WIDTH * error
    return Estimate(value, error, value - half, value + half, n, of, 0.0 if impossible else p_value, float(detectable))


def _noncentrality(degrees: int) -> float:
    """Noncentrality at which a chi-square test of level `REJECT` has power `POWER`."""
    critical = float(st.chi2.isf(REJECT, degrees))
    return float(brentq(lambda shift: st.ncx2.sf(critical, degrees, shift) - POWER, 1e-9, 4 * critical + 100))
