"""Estimates and their intervals, the decision rule at its boundaries, and the test of an exact law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats as scipy_stats

from occamnets import stats

eighths = st.integers(-80, 80).map(lambda k: k / 8)  # sums of these are exact, so that boundaries are met
widths = st.integers(0, 40).map(lambda k: k / 8)


def interval(low, high):
    return stats.Estimate((low + high) / 2, (high - low) / 10, low, high, 100, "draw")


def with_power(p_value, detectable):
    return stats.Estimate(0.1, 0.01, 0.05, 0.15, 100, "draw", p_value, detectable)


AGREE, ABOVE, BELOW = stats.agreement(1.0, 0.5), stats.above(1.0, 0.5), stats.below(1.0, 0.5)


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        (AGREE, 0.5, 1.5, "holds"),  # touches both ends of the tolerance
        (AGREE, 0.49, 1.4, "undecided"),
        (AGREE, 0.6, 1.51, "undecided"),
        (AGREE, 0.0, 2.0, "undecided"),
        (AGREE, 1.5, 2.0, "undecided"),  # touches from outside
        (AGREE, 0.0, 0.5, "undecided"),
        (AGREE, 1.51, 2.0, "fails"),
        (AGREE, 0.0, 0.49, "fails"),
        (ABOVE, 1.5, 9.0, "holds"),
        (ABOVE, 1.49, 9.0, "undecided"),
        (ABOVE, -9.0, 1.5, "undecided"),
        (ABOVE, -9.0, 1.49, "fails"),
        (BELOW, -9.0, 0.5, "holds"),
        (BELOW, -9.0, 0.51, "undecided"),
        (BELOW, 0.5, 9.0, "undecided"),
        (BELOW, 0.51, 9.0, "fails"),
    ],
)
def test_the_rule_at_its_boundaries(rule, low, high, verdict):
    assert stats.decide(rule, interval(low, high)) == verdict


def test_identity_means_equal_up_to_the_stated_bound():
    assert stats.decide(stats.identity(32.0), stats.exact(32.0)) == "holds"
    assert stats.decide(stats.identity(32.0), stats.exact(33.0)) == "fails"
    assert stats.decide(stats.identity(1.0, 0.25), stats.exact(1.25)) == "holds"
    assert stats.decide(stats.identity(1.0, 0.25), stats.exact(1.26)) == "fails"


@pytest.mark.parametrize(
    ("p_value", "detectable", "verdict"),
    [
        (1e-6, 0.01, "holds"),
        (1e-6, 0.011, "undecided"),
        (0.9e-6, 0.01, "fails"),
        (0.9e-6, 0.5, "fails"),
    ],
)
def test_an_exact_law_needs_a_p_value_and_the_power_to_refute(p_value, detectable, verdict):
    assert stats.decide(stats.exact_law(0.01), with_power(p_value, detectable)) == verdict


def test_an_exact_law_is_not_judged_by_an_interval():
    with pytest.raises(ValueError, match="law_test; this one has no p-value"):
        stats.decide(stats.exact_law(0.1), stats.exact(0.0))


@given(eighths, widths, eighths, widths)
def test_the_rule_is_the_same_in_the_mirror(predicted, delta, low, width):
    seen, mirrored = interval(low, low + width), interval(-low - width, -low)
    verdicts = [stats.decide(kind(predicted, delta), seen) for kind in (stats.agreement, stats.above, stats.below)]
    turned = [stats.decide(kind(-predicted, delta), mirrored) for kind in (stats.agreement, stats.below, stats.above)]
    assert verdicts == turned


@given(eighths, widths, eighths, widths, widths)
def test_a_narrower_interval_never_changes_a_verdict_that_stands(predicted, delta, low, width, cut):
    wide, narrow = interval(low, low + width), interval(low + min(cut, width), low + width)
    for kind in (stats.agreement, stats.above, stats.below):
        verdict = stats.decide(kind(predicted, delta), wide)
        assert verdict in ("undecided", stats.decide(kind(predicted, delta), narrow))


def test_a_negative_or_missing_tolerance_is_named():
    for delta in (-0.5, float("nan")):
        with pytest.raises(ValueError, match=f"delta = {delta}"):
            stats.agreement(0.0, delta)


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="'hunch'"):
        stats.decide(stats.Rule("hunch", 0.0, 0.0), stats.exact(0.0))


def test_an_exact_number_is_as_wide_as_its_bound():
    assert stats.exact(2.0, 0.5)[:5] == (2.0, 0.0, 1.5, 2.5, 1)


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(1, 5)), min_size=2, max_size=20))
def test_a_mean_with_counts_is_the_mean_of_the_repeated_values(pairs):
    values, counts = np.array([v for v, _ in pairs]), np.array([c for _, c in pairs])
    long = np.repeat(values, counts)
    seen = stats.mean(values, counts)
    np.testing.assert_allclose(seen[:2], (long.mean(), scipy_stats.sem(long)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose((seen.high, seen.low), seen.value + 5 * seen.error * np.array([1, -1]))
    assert seen.n == len(long)


def test_the_interval_over_twenty_runs_is_5_95_errors_wide():
    seen = stats.over_runs(np.arange(20.0))
    assert (seen.value, seen.error) == (9.5, pytest.approx(np.arange(20).std(ddof=1) / 20**0.5))
    assert (seen.high - seen.value) / seen.error == pytest.approx(5.95, abs=0.005)
    assert seen.value - seen.low == pytest.approx(seen.high - seen.value)


def test_too_few_runs_draws_or_trials_are_named():
    with pytest.raises(ValueError, match=r"19 runs.*20 or more"):
        stats.over_runs(np.arange(19.0))
    with pytest.raises(ValueError, match="2 draws or more; there are 1"):
        stats.mean(np.array([3.0]))
    for successes, n in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError, match=f"{successes} successes out of {n}"):
            stats.proportion(successes, n)


def test_clopper_pearson_misses_at_most_as_often_as_its_level_whatever_the_truth():
    n = 40
    seen = [stats.proportion(k, n) for k in range(n + 1)]
    low, high = np.array([e.low for e in seen]), np.array([e.high for e in seen])
    truth = np.linspace(0.001, 0.999, 999)[:, None]
    missed = ((truth < low) | (truth > high)) * scipy_stats.binom.pmf(np.arange(n + 1), n, truth)
    assert 0.2 * stats.LEVEL < missed.sum(axis=1).max() <= stats.LEVEL


def test_a_proportion_takes_numpy_counts_and_gives_the_binomial_error():
    seen = stats.proportion(np.int64(25), np.int64(100))
    assert seen.value == 0.25
    assert seen.error == pytest.approx((0.25 * 0.75 / 100) ** 0.5)
    assert type(seen.n) is int


def test_errors_of_independent_estimates_add_in_squares():
    seen = stats.difference(stats.exact(5.0)._replace(error=3.0, n=10), stats.exact(1.0)._replace(error=4.0, n=7))
    assert seen[:5] == (4.0, 5.0, -21.0, 29.0, 7)


@given(arrays.arrays(float, st.integers(1, 40), elements=st.floats(0, 12)), st.floats(0.5, 20))
def test_pools_expect_enough_and_lose_nothing(expected, least):
    counts = np.arange(len(expected))
    pooled = stats.pool(counts, expected, least)
    assert len(pooled.expected) == 1 or (pooled.expected > least - 1e-9).all()
    assert pooled.observed.sum() == counts.sum()
    assert pooled.expected.sum() == pytest.approx(expected.sum())
    assert len(pooled.expected) == len(expected) or (expected < least).any()


def test_the_test_of_a_law_is_the_chi_square_test_of_the_pooled_cells():
    gen = np.random.default_rng(np.random.SeedSequence(1))
    for law in (np.full(16, 1 / 16), gen.dirichlet(np.full(60, 0.2))):
        counts = gen.multinomial(5000, law)
        pooled = stats.pool(counts, 5000 * law)
        seen = stats.law_test(counts, law)
        assert seen.p_value == pytest.approx(scipy_stats.chisquare(*pooled).pvalue)
        assert seen.value == pytest.approx(stats.total_variation(pooled.observed / 5000, pooled.expected / 5000))


def test_one_draw_where_the_law_has_none_refutes_it():
    law = np.array([0.5, 0.5, 0.0])
    assert stats.decide(stats.exact_law(0.2), stats.law_test(np.array([5000, 5000, 0]), law)) == "holds"
    assert stats.decide(stats.exact_law(0.2), stats.law_test(np.array([5000, 5000, 1]), law)) == "fails"


@pytest.mark.parametrize("counts", [[40, 60, 0], [30, 30, 40], [0, 0, 100]])
def test_the_measured_value_is_the_total_variation_also_where_the_law_has_no_mass(counts):
    law = np.array([0.5, 0.5, 0.0])
    assert stats.law_test(np.array(counts), law).value == pytest.approx(np.abs(np.array(counts) / 100 - law).sum() / 2)


def test_a_law_that_cannot_be_tested_is_named():
    with pytest.raises(ValueError, match="3 counts, a law of 2 cells and sum 1"):
        stats.law_test(np.array([1, 2, 3]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"sum 0\.9"):
        stats.law_test(np.array([100, 100]), np.array([0.5, 0.4]))
    with pytest.raises(ValueError, match="6 draws leave one cell"):
        stats.law_test(np.array([3, 3]), np.array([0.5, 0.5]))


@pytest.mark.parametrize("law", [np.full(128, 1 / 128), np.arange(1, 31) / 465])
def test_total_variation_under_the_law_against_monte_carlo(law):
    n, replicates = 10_000, 2000
    gen = np.random.default_rng(np.random.SeedSequence(2))
    drawn = np.abs(gen.multinomial(n, law, size=replicates) / n - law).sum(axis=1) / 2
    centre, spread = stats.total_variation_null(law, n)
    assert abs(drawn.mean() - centre) < 5 * spread / replicates**0.5
    assert abs(drawn.std() - spread) < 5 * spread / (2 * replicates) ** 0.5
    counts = gen.multinomial(n, law)
    seen = stats.law_test(counts, law)
    assert seen.error == pytest.approx(spread)
    assert (seen.high - seen.value, seen.value - seen.low) == (pytest.approx(5 * spread), pytest.approx(5 * spread))


@pytest.mark.parametrize("cells", [4, 64])
def test_the_detectable_distance_is_found_99_times_in_100_in_the_worst_case(cells):
    n, replicates = 1_000_000, 20_000
    gen = np.random.default_rng(np.random.SeedSequence(3))
    law = np.full(cells, 1 / cells)
    distance = stats.law_test(gen.multinomial(n, law), law).detectable
    spread_out = law * (1 + 2 * distance * (-1) ** np.arange(cells))  # every cell off by the same share
    one_cell = law + distance * np.eye(cells)[0] - distance / (cells - 1) * (1 - np.eye(cells)[0])
    power = []
    for other in (spread_out, one_cell):
        assert stats.total_variation(law, other) == pytest.approx(distance)
        drawn = gen.multinomial(n, other, size=replicates)
        power.append((scipy_stats.chisquare(drawn, n * law, axis=1).pvalue < 1e-6).mean())
    assert abs(power[0] - 0.99) < 5 * (0.99 * 0.01 / replicates) ** 0.5
    assert power[1] >= power[0]


def test_a_difference_is_no_narrower_than_the_intervals_that_it_comes_from():
    few = stats.over_runs(np.linspace(0.0, 1.0, 20))
    many = stats.mean(np.linspace(0.0, 1.0, 1000))
    gap = stats.difference(few, many)
    assert gap.high - gap.value == pytest.approx(np.hypot(few.high - few.value, many.high - many.value))
    assert (gap.n, gap.of) == (20, "training run")


def test_an_exact_number_adds_no_error_and_no_sample():
    draws = stats.mean(np.array([0.0, 1.0, 1.0, 0.0]))
    gap = stats.difference(stats.exact(1.0), draws)
    assert (gap.value, gap.error, gap.n, gap.of) == (0.5, draws.error, 4, "draw")


def test_the_long_side_of_an_interval_is_turned_round_by_subtraction():
    rare = stats.proportion(1, 100)
    assert rare.high - rare.value > 5 * rare.error
    assert stats.difference(rare, stats.exact(0.0)).high == pytest.approx(rare.high)
    assert stats.difference(stats.exact(0.0), rare).low == pytest.approx(-rare.high)
