"""Inputs in their order, truth tables as bytes."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from occamnets import boolean

batches = st.integers(1, 6).flatmap(
    lambda n: arrays.array_shapes(min_dims=0, max_dims=2).flatmap(lambda s: arrays.arrays(bool, (*s, 2**n)))
)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_cube_counts_upwards_in_binary(n):
    assert [tuple(x) for x in boolean.cube(n)] == list(product((0, 1), repeat=n))


@given(batches)
def test_unpacking_gives_back_what_was_packed(tables):
    assert (boolean.unpack(boolean.pack(tables), boolean.inputs_of(tables)) == tables).all()


@given(st.integers(1, 6).flatmap(lambda n: arrays.arrays(bool, 2**n)))
def test_bytes_hold_the_first_entry_in_the_highest_bit(table):
    letters = "".join(map(str, table.astype(int)))
    assert int.from_bytes(boolean.pack(table).tobytes()) == int(letters.ljust(8, "0"), 2)


@given(batches)
def test_ones_are_counted_without_unpacking(tables):
    assert (boolean.ones(boolean.pack(tables)) == tables.sum(axis=-1)).all()


def test_ones_do_not_run_over():
    assert boolean.ones(boolean.pack(np.ones(2**10, dtype=bool))) == 2**10


@pytest.mark.parametrize("n", [1, 2, 4])
def test_input_orders_rename_the_inputs(n):
    x = boolean.cube(n)
    for row, order in zip(boolean.input_orders(n), permutations(range(n)), strict=True):
        assert (x[row] == x[:, order]).all()


@pytest.mark.parametrize("length", [0, 1, 100])
def test_a_length_that_is_no_power_of_two_is_named(length):
    for refuses in (boolean.inputs_of, boolean.pack):
        with pytest.raises(ValueError, match=rf"2\*\*n entries .* has {length}$"):
            refuses(np.zeros((3, length), dtype=bool))


@pytest.mark.parametrize("n", [-1, 0, 25])
def test_a_cube_of_impossible_dimension_is_named(n):
    with pytest.raises(ValueError, match=f"n = {n}: .*between 1 and 24"):
        boolean.cube(n)


@pytest.mark.parametrize("n", [0, -1])
def test_a_table_without_inputs_is_refused(n):
    with pytest.raises(ValueError, match=f"n = {n}: .* 1 input or more"):
        boolean.unpack(np.zeros(1, dtype=np.uint8), n)


def test_bytes_of_another_number_of_inputs_are_refused():
    with pytest.raises(ValueError, match=r"4 bytes do not hold .* n = 7 inputs: 16 do"):
        boolean.unpack(np.zeros(4, dtype=np.uint8), 7)
