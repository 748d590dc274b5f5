"""Counts of functions drawn from a prior: against plain definitions, closed forms and one another."""

import numpy as np
import pytest
import torch

from occamnets import boolean, chunks, nets, prior, stats

STREAM = np.random.SeedSequence([11, 13])
NET = nets.dense((3, 6, 1), sigma_b=0.3)


def plain_tables(net, draws, n):
    """Truth tables of the networks of the first chunk, from the same weights."""
    gen = chunks.generator(np.random.SeedSequence(STREAM.entropy, spawn_key=(0,)))
    inputs = torch.as_tensor(boolean.cube(n), dtype=torch.float32)
    return np.array([row > 0 for row in nets.outputs(net, inputs, draws, gen=gen)[:, 0].numpy()])


def test_both_counts_are_those_of_the_definition_on_the_same_weights():
    tables = plain_tables(NET, 2000, 3)
    distinct, times = np.unique(tables, axis=0, return_counts=True)
    ones = prior.count_ones(NET, boolean.cube(3), 2000, stream=STREAM)
    assert ones.tolist() == [(tables.sum(axis=1) == t).sum() for t in range(9)]
    seen = prior.count_functions(NET, 2000, stream=STREAM)
    order = np.lexsort(seen.unpacked().T[::-1])
    assert (seen.unpacked()[order] == distinct).all()
    assert (seen.counts[order] == times).all()


def test_a_perceptron_is_one_where_its_weights_sum_to_more_than_zero():
    gen = chunks.generator(np.random.SeedSequence(STREAM.entropy, spawn_key=(0,)))
    t = (torch.randn((1000, 1, 5), generator=gen)[:, 0].double().numpy() @ boolean.cube(5).T > 0).sum(axis=1)
    seen = prior.count_ones(nets.perceptron(5), boolean.cube(5), 1000, stream=STREAM)
    assert (seen == np.bincount(t, minlength=33)).all()


def test_an_output_of_exactly_zero_counts_as_zero():
    assert prior.count_ones(nets.perceptron(3, weight_sd=0.0), boolean.cube(3), 10, stream=STREAM)[0] == 10


@pytest.mark.parametrize("merge", [1, 100, 2**19])
def test_chunks_and_merges_lose_nothing_and_agree_with_the_count_of_ones(monkeypatch, merge):
    monkeypatch.setattr(prior, "CHUNK", 2**11)
    monkeypatch.setattr(prior, "MERGE", merge)
    seen = prior.count_functions(NET, 3001, stream=STREAM)
    assert seen.counts.sum() == seen.draws == 3001
    assert len(np.unique(seen.tables, axis=0)) == len(seen.tables)
    assert (np.diff(seen.counts) <= 0).all()
    by_ones = np.bincount(boolean.ones(seen.tables), weights=seen.counts, minlength=9)
    assert (by_ones == prior.count_ones(NET, boolean.cube(3), 3001, stream=STREAM)).all()


def test_restriction_to_one_count_keeps_those_functions_and_no_others():
    everything = prior.count_functions(NET, 3000, stream=STREAM)
    here = boolean.ones(everything.tables) == 4
    seen = prior.count_functions(NET, 3000, stream=STREAM, t=4)
    assert (seen.tables == everything.tables[here]).all()
    assert (seen.counts == everything.counts[here]).all()
    assert seen.draws == 3000


def test_a_count_that_never_occurs_gives_no_function():
    seen = prior.count_functions(nets.perceptron(3), 100, stream=STREAM, t=8)
    assert (seen.tables.shape, seen.unpacked().shape, seen.draws) == ((0, 1), (0, 8), 100)


@pytest.mark.parametrize("law", [nets.gaussian, nets.uniform])
def test_every_count_of_a_bias_free_perceptron_is_equally_likely(law):
    counts = prior.count_ones(nets.perceptron(4, law=law), boolean.cube(4), 200_000, stream=STREAM)
    seen = stats.law_test(counts, np.append(np.full(16, 1 / 16), 0.0))
    assert stats.decide(stats.exact_law(0.02), seen) == "holds"


@pytest.mark.parametrize(("law", "q"), [(nets.gaussian, 2 * np.arcsin(1 / 3) / np.pi), (nets.uniform, 1 / 6)])
def test_functions_of_three_inputs_have_their_exact_probabilities(law, q):
    """1/8 for each t; within t = 3 and t = 4, a given weight outweighs the other two with probability q."""
    seen = prior.count_functions(nets.perceptron(3, law=law), 200_000, stream=STREAM)
    tables, t = seen.unpacked(), np.minimum(boolean.ones(seen.tables), 7 - boolean.ones(seen.tables))
    one_rules = np.any([(tables[:, x_i == 1].sum(axis=1) % 4 == 0) for x_i in boolean.cube(3).T], axis=0)
    exact = np.where(t < 3, 1 / np.array([8, 24, 48, 48])[t], np.where(one_rules, q, 1 / 3 - q) / 8)
    assert stats.decide(stats.exact_law(0.03), stats.law_test(seen.counts, exact)) == "holds"


def test_any_points_can_be_counted():
    centred = prior.count_ones(nets.perceptron(5), 2 * boolean.cube(5) - 1, 1000, stream=STREAM)
    assert centred[16] == centred.sum() == 1000


@pytest.mark.parametrize("t", [-1, 9])
def test_an_impossible_count_is_named(t):
    with pytest.raises(ValueError, match=f"t = {t}: .* 3 inputs .* 0 to 8"):
        prior.count_functions(NET, 10, stream=STREAM, t=t)


def test_more_than_one_output_is_named():
    with pytest.raises(ValueError, match="needs 1 output; the network has 2"):
        prior.count_ones(nets.dense((3, 2)), boolean.cube(3), 10, stream=STREAM)


def test_no_draws_are_named():
    with pytest.raises(ValueError, match="draws = 0"):
        prior.count_ones(NET, boolean.cube(3), 0, stream=STREAM)
