"""The zero-threshold functions: complete, by an independent count, and with the symmetries that they must have."""

from fractions import Fraction
from math import factorial, prod

import numpy as np
import pytest

from occamnets import boolean

TOTAL = {1: 2, 2: 6, 3: 32, 4: 370, 5: 11292}  # OEIS A034997
HALF = {
    1: [1],
    2: [1, 2],
    3: [1, 3, 6, 6],
    4: [1, 4, 12, 18, 28, 42, 48, 32],
    5: [1, 5, 20, 40, 80, 155, 250, 270, 290, 470, 630, 685, 780, 840, 760, 370],
}  # functions with t = 0, 1, ... ones; the other half mirrors it
PRIMES = (7, 11, 13, 17, 19)  # above 5, the largest minor of a 0/1 matrix of five columns


def off_all_hyperplanes(n, q):
    """Points of F_q^n with w_1 = 1 at which no nonempty subset of the coordinates sums to 0."""
    sums = np.array([[0, 1]])
    for _ in range(n - 1):
        more = (sums[:, None, :] + np.arange(q)[None, :, None]) % q
        allowed = (more != 0).all(axis=2)
        sums = np.concatenate([np.repeat(sums, allowed.sum(axis=1), axis=0), more[allowed]], axis=1)
    return len(sums)


def reduced_characteristic(n, at):
    """The characteristic polynomial over q - 1: monic, of degree n - 1; one prime more than it needs (Athanasiadis)."""
    lower = {q: off_all_hyperplanes(n, q) - q ** (n - 1) for q in PRIMES}
    lagrange = {q: prod(Fraction(at - r, q - r) for r in PRIMES if r != q) for q in PRIMES}
    return at ** (n - 1) + sum(lower[q] * lagrange[q] for q in PRIMES)


@pytest.mark.parametrize("n", TOTAL)
def test_the_enumeration_is_complete_by_zaslavskys_count_of_regions(n):
    functions = boolean.zero_threshold_functions(n)
    assert len(functions) == len(np.unique(functions, axis=0)) == TOTAL[n] == 2 * abs(reduced_characteristic(n, -1))
    assert reduced_characteristic(n, 23) == off_all_hyperplanes(n, 23)


@pytest.mark.parametrize("n", HALF)
def test_functions_per_count_of_ones(n):
    per_count = np.bincount(boolean.zero_threshold_functions(n).sum(axis=1), minlength=2**n)
    assert per_count.tolist() == HALF[n] + HALF[n][::-1]


def test_the_middle_count_repeats_the_whole_of_one_input_fewer():
    for n in range(2, 6):
        functions = boolean.zero_threshold_functions(n)
        assert (functions.sum(axis=1) == 2 ** (n - 1)).sum() == TOTAL[n - 1]


@pytest.mark.parametrize("n", [3, 4])
def test_random_weights_give_the_same_functions(n):
    weights = np.random.default_rng(n).uniform(-1, 1, size=(200_000, n))
    drawn = np.unique(boolean.pack(weights @ boolean.cube(n).T > 0), axis=0)
    assert (drawn == boolean.pack(boolean.zero_threshold_functions(n))).all()


def test_random_weights_at_five_inputs_give_nothing_else():
    weights = np.random.default_rng(5).uniform(-1, 1, size=(50_000, 5))
    drawn = np.unique(boolean.pack(weights @ boolean.cube(5).T > 0), axis=0)
    known = set(map(bytes, boolean.pack(boolean.zero_threshold_functions(5))))
    assert len(drawn) > 5000
    assert set(map(bytes, drawn)) <= known


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_closed_under_renaming_inputs_and_under_reflection(n):
    functions = boolean.zero_threshold_functions(n)
    renamed = functions[:, boolean.input_orders(n)[factorial(n) // 2]]
    opposite = ~functions & boolean.cube(n).any(axis=1)  # w -> -w; x = 0 stays at 0
    for other in (renamed, opposite):
        assert (np.unique(other, axis=0) == functions).all()


def test_the_smallest_magnitudes_that_suffice():
    for n, enough in boolean.LARGEST.items():
        found = [len(boolean.zero_threshold_functions(n, largest=k)) for k in range(1, enough + 2)]
        assert found[-2:] == [TOTAL[n]] * 2
        assert all(fewer < TOTAL[n] for fewer in found[:-2])


@pytest.mark.parametrize("n", [0, 6])
def test_other_numbers_of_inputs_are_refused(n):
    with pytest.raises(ValueError, match=rf"n = {n}: .*from 1 to 5"):
        boolean.zero_threshold_functions(n)


def test_a_largest_weight_below_one_is_refused():
    with pytest.raises(ValueError, match=r"largest = 0: .*1 or more"):
        boolean.zero_threshold_functions(2, largest=0)


def test_regions_are_counted_as_the_functions_are_and_beyond():
    primes = {3: (3, 5), 4: (5, 7, 11), 5: (7, 11, 13, 17), 6: (11, 13, 17, 19, 23)}
    assert [boolean.zero_threshold_regions(n, p) for n, p in primes.items()] == [32, 370, 11292, 1066044]


def test_primes_that_are_too_small_give_another_number():
    assert boolean.zero_threshold_regions(5, (3, 5, 7, 11, 13)) != 11292


@pytest.mark.parametrize(("n", "primes"), [(2, (3, 5)), (5, (7, 11, 13)), (3, (3, 67))])
def test_counting_regions_says_what_it_needs(n, primes):
    with pytest.raises(ValueError, match="different primes up to 61"):
        boolean.zero_threshold_regions(n, primes)
