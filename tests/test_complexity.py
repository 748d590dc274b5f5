"""The Lempel-Ziv parser against a plain one, known complexities, and the entropy of the class balance."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from occamnets import boolean, complexity


def plain_words(string):
    """Cut off the shortest word that does not occur in what comes before its own last letter, again and again."""
    text, start, words = "".join(map(str, string.astype(int))), 0, 0
    while start < len(text):
        end = start + 1
        while end < len(text) and text[start:end] in text[: end - 1]:
            end += 1
        start, words = end, words + 1
    return words


def test_every_string_of_up_to_ten_letters_is_parsed_as_the_definition_says():
    for length in range(1, 11):
        strings = boolean.cube(length).astype(bool)
        assert complexity.lz76_words(strings).tolist() == [plain_words(s) for s in strings]


@given(arrays.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 300)), elements=st.booleans()))
def test_longer_strings_are_parsed_as_the_definition_says(strings):
    assert complexity.lz76_words(strings).tolist() == [plain_words(s) for s in strings]


@given(arrays.arrays(bool, st.integers(1, 20)), st.integers(1, 30), st.integers(0, 19))
def test_repetitive_strings_are_parsed_as_the_definition_says(motif, times, cut):
    string = np.tile(motif, times)[cut % len(motif) :]
    assert complexity.lz76_words(string[None]).tolist() == [plain_words(string)]


def test_blocks_do_not_show(monkeypatch):
    strings = np.random.default_rng(np.random.SeedSequence(1)).random((50, 64)) < 0.4
    whole = complexity.lz76_words(strings)
    monkeypatch.setattr(complexity, "BLOCK", 7)
    assert (complexity.lz76_words(strings) == whole).all()
    assert complexity.lz76_words(strings[:0]).tolist() == []


@pytest.mark.parametrize("length", [255, 256, 33_000])
def test_a_constant_string_of_any_length_has_two_words(length):
    assert complexity.lz76_words(np.zeros((1, length), dtype=bool)).tolist() == [2]


@given(arrays.arrays(bool, st.tuples(st.integers(1, 5), st.integers(2, 70))))
def test_complexity_is_blind_to_direction_and_complement(strings):
    k = complexity.lz_complexity(strings)
    assert (complexity.lz_complexity(strings[:, ::-1]) == k).all()
    assert (complexity.lz_complexity(~strings) == k).all()


def test_functions_of_seven_inputs_have_their_known_complexity():
    x = boolean.cube(7)
    assert complexity.lz_complexity(x.T == 1).tolist() == [21, 28, 28, 28, 28, 28, 21]
    named = np.stack([x.sum(axis=1) % 2 == 1, np.zeros(128, dtype=bool), np.ones(128, dtype=bool)])
    assert complexity.lz_complexity(named).tolist() == [91, 7, 7]


def test_a_hundred_thousand_random_strings_take_seconds_and_have_their_known_mean():
    strings = np.random.default_rng(np.random.SeedSequence(2)).integers(0, 2, (100_000, 128)).astype(bool)
    start = time.perf_counter()
    k = complexity.lz_complexity(strings)
    assert time.perf_counter() - start < 10
    assert abs(k.mean() - 148.835) < 5 * k.std() / len(k) ** 0.5


@pytest.mark.parametrize("length", [0, 1])
def test_a_string_too_short_is_named(length):
    with pytest.raises(ValueError, match=f"length {length} .*at least 2"):
        complexity.lz_complexity(np.zeros((3, length), dtype=bool))


def test_balance_entropy_is_that_of_a_biased_coin():
    t = np.arange(1, 128)
    p = t / 128
    entropy = complexity.balance_entropy(t, 128)
    np.testing.assert_allclose(entropy, -p * np.log2(p) - (1 - p) * np.log2(1 - p), rtol=1e-12)
    assert (complexity.balance_entropy(t[:, None], 128)[:, 0] == entropy).all()
    assert complexity.balance_entropy(np.int64(32), 128) == pytest.approx(2 - 0.75 * np.log2(3))


def test_shortest_formulas_of_parity_are_the_known_ones():
    assert [complexity.formula_sizes(n)[parity] for n, parity in ((1, 0b01), (2, 0b0110), (3, 0b01101001))] == [0, 3, 9]


def test_shortest_formulas_are_found_for_three_inputs_at_most():
    with pytest.raises(ValueError, match="n = 4"):
        complexity.formula_sizes(4)
