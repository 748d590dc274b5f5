"""Counts of functions drawn from a prior: against plain definitions, closed forms and one another."""

import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from occamnets import boolean, chunks, nets, prior, stats

STREAM = np.random.SeedSequence([11, 13])
NET = nets.dense((3, 6, 1), sigma_b=0.3)
CUBE = boolean.cube(3)

# Laws whose sums are exact in single precision and often zero; the last gives the function that is 1 almost everywhere
EXACT = {
    "signs": lambda shape, gen: 2.0 * torch.randint(2, shape, generator=gen) - 1,
    "integers": lambda shape, gen: torch.randint(-3, 4, shape, generator=gen),
    "double": lambda shape, gen: (16 * torch.randn(shape, generator=gen, dtype=torch.float64)).round() / 16,
    "positive": lambda shape, gen: torch.randint(1, 4, shape, generator=gen).float(),
}
SCALES = [(1.0, 0.0), (0.75, 0.0), (1.0, 1.0), (0.5, 1.5), (0.0, 2.0)]
HASHES = {
    "constant": lambda words: np.zeros(len(words), dtype=np.uint64),
    "highest bit": lambda words: words[:, 0] << np.uint64(63),
    "lowest bit": lambda words: words[:, 0] & np.uint64(1),
    "as it is": prior._hash,
}
every_hash = pytest.mark.parametrize("name", HASHES)


def recorded(law):
    """The law, and the list of what it will have drawn."""
    drawn = []

    def draw(shape, gen):
        drawn.append(law(shape, gen))
        return drawn[-1]

    return draw, drawn


def defined(net, drawn, inputs):
    """``1(w.x + b > 0)`` in double precision, a row a network."""
    (layer,) = net.layers
    weights, biases = (drawn[::2], drawn[1::2]) if layer.bias_sd else (drawn, [torch.zeros(1, 1, 1)])
    w, b = (torch.cat(parts)[:, 0].double().numpy() for parts in (weights, biases))
    return layer.weight_sd * (w @ inputs.T) + layer.bias_sd * b > 0


def replayed(net, n, draws, block, chunk):
    """Truth tables from the seeds of chunks of so many blocks of so many networks, a row a network."""
    inputs, tables = torch.as_tensor(boolean.cube(n), dtype=torch.float32), []
    for number, first in enumerate(range(0, draws, chunk * block)):
        gen = chunks.generator(np.random.SeedSequence(STREAM.entropy, spawn_key=(number,)))
        last = min(draws, first + chunk * block)
        tables += [nets.outputs(net, inputs, min(block, last - at), gen=gen) for at in range(first, last, block)]
    return torch.cat(tables)[:, 0].numpy() > 0


def times(tables):
    """How often each truth table occurs."""
    return Counter(map(bytes, boolean.pack(tables)))


def found(seen):
    """The same of functions that were counted."""
    return dict(zip(map(bytes, seen.tables), seen.counts.tolist(), strict=True))


def same(seen, other):
    return all(np.array_equal(a, b) for a, b in zip(seen, other, strict=True))


def small(patch, net, points, block=5, chunk=7):
    """Blocks of 5 networks, chunks of 7 blocks."""
    patch.setattr(prior, "BLOCK", 10**9)
    patch.setattr(prior, "BLOCK", block * (10**9 // prior._block(net, points)))
    patch.setattr(prior, "CHUNK", chunk)


def check_perceptron(n, law, scales, draws=50, block=7, chunk=3):
    law, drawn = recorded(EXACT[law])
    net = nets.perceptron(n, law=law, weight_sd=scales[0], bias_sd=scales[1])
    with pytest.MonkeyPatch.context() as patch:
        small(patch, net, 2**n, block, chunk)
        ones = prior.count_ones(net, boolean.cube(n), draws, stream=STREAM)
        tables = defined(net, drawn, boolean.cube(n))
        drawn.clear()
        seen = prior.count_functions(net, draws, stream=STREAM)
    assert ones.tolist() == np.bincount(tables.sum(axis=1), minlength=2**n + 1).tolist()
    assert found(seen) == times(defined(net, drawn, boolean.cube(n))) == times(tables)
    assert (len(tables), seen.draws, seen.n, seen.distinct) == (draws, draws, n, len(seen.tables))


# The values of the networks


@pytest.mark.parametrize("n", range(1, 11))
@pytest.mark.parametrize("law", EXACT)
@pytest.mark.parametrize("scales", SCALES)
def test_perceptrons_are_those_of_the_definition(n, law, scales):
    check_perceptron(n, law, scales)


@given(
    st.integers(1, 7),
    st.sampled_from(sorted(EXACT)),
    st.sampled_from(SCALES),
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 4),
)
def test_perceptrons_are_those_of_the_definition_in_blocks_and_chunks_of_any_size(n, law, scales, draws, block, chunk):
    check_perceptron(n, law, scales, draws, block, chunk)


def test_a_perceptron_is_one_where_its_weights_sum_to_more_than_zero():
    gen = chunks.generator(np.random.SeedSequence(STREAM.entropy, spawn_key=(0,)))
    t = (torch.randn((1000, 1, 5), generator=gen)[:, 0].double().numpy() @ boolean.cube(5).T > 0).sum(axis=1)
    seen = prior.count_ones(nets.perceptron(5), boolean.cube(5), 1000, stream=STREAM)
    assert (seen == np.bincount(t, minlength=33)).all()


@pytest.mark.parametrize("widths", [(1, 2, 1), (3, 6, 1), (4, 5, 3, 1), (6, 1)])
def test_networks_are_drawn_block_by_block_from_the_seeds_of_their_chunks(monkeypatch, widths):
    net, n = nets.dense(widths, sigma_b=0.3), widths[0]
    small(monkeypatch, net, 2**n)
    tables = replayed(net, n, 100, block=5, chunk=7)
    ones = prior.count_ones(net, boolean.cube(n), 100, stream=STREAM)
    assert ones.tolist() == np.bincount(tables.sum(axis=1), minlength=2**n + 1).tolist()
    assert found(prior.count_functions(net, 100, stream=STREAM)) == times(tables)


def test_a_block_fills_its_bytes_and_no_more():
    assert prior._block(nets.perceptron(7), 128) == prior.BLOCK // 128
    assert prior._block(nets.dense((7, 40, 20, 1)), 128) == prior.BLOCK // (128 * 40 * 4)
    assert prior._block(nets.perceptron(24), 2**24) == 1


def test_the_last_block_of_a_chunk_and_the_last_chunk_are_what_is_left(monkeypatch):
    law, drawn = recorded(nets.gaussian)
    small(monkeypatch, nets.perceptron(4), 16)
    prior.count_ones(nets.perceptron(4, law=law), boolean.cube(4), 48, stream=STREAM)
    assert [len(weights) for weights in drawn] == [5] * 9 + [3]


@pytest.mark.parametrize("n", range(1, 12))
def test_an_output_of_exactly_zero_counts_as_zero(n):
    """With weights 1, -1, 1, ... it is one where more odd than even coordinates are: a binomial count."""
    net = nets.perceptron(n, law=lambda shape, _: 1.0 - 2 * (torch.arange(shape[-1]) % 2).expand(shape))
    ones = int((boolean.cube(n)[:, ::2].sum(axis=1) > boolean.cube(n)[:, 1::2].sum(axis=1)).sum())
    assert prior.count_ones(net, boolean.cube(n), 10, stream=STREAM)[ones] == 10
    assert prior.count_ones(net._replace(layers=(nets.Layer(n, 1, 0.0),)), boolean.cube(n), 10, stream=STREAM)[0] == 10


@pytest.mark.parametrize("n", range(1, 12))
def test_counts_beyond_a_byte(n):
    for bias_sd, ones in ((0.0, 2**n - 1), (1.0, 2**n)):
        net = nets.perceptron(n, law=lambda shape, _: torch.ones(shape), bias_sd=bias_sd)
        assert prior.count_ones(net, boolean.cube(n), 3, stream=STREAM)[ones] == 3
        assert boolean.ones(prior.count_functions(net, 3, stream=STREAM).tables).tolist() == [ones]


@given(st.integers(1, 300), st.integers(1, 5))
def test_any_number_of_points_can_be_counted(points, n):
    law, drawn = recorded(EXACT["signs"])
    inputs = np.random.default_rng([points, n]).integers(-1, 2, size=(points, n))
    net = nets.perceptron(n, law=law, bias_sd=1.0)
    ones = prior.count_ones(net, inputs, 20, stream=STREAM)
    assert ones.tolist() == np.bincount(defined(net, drawn, inputs).sum(axis=1), minlength=points + 1).tolist()


def test_any_points_can_be_counted():
    centred = prior.count_ones(nets.perceptron(5), 2 * boolean.cube(5) - 1, 1000, stream=STREAM)
    assert centred[16] == centred.sum() == 1000
    assert prior.count_ones(nets.perceptron(30), np.eye(30), 10, stream=STREAM).sum() == 10


@pytest.mark.parametrize("law", ["signs", "double"])
def test_a_cube_in_another_order_gives_the_same_counts_without_the_shortcut(monkeypatch, law):
    net = nets.perceptron(6, law=EXACT[law], weight_sd=0.5, bias_sd=1.0)
    usual = prior.count_ones(net, boolean.cube(6), 500, stream=STREAM)
    monkeypatch.setattr(prior, "_subset_sums", None)
    for order in (np.arange(64)[::-1], np.random.default_rng(0).permutation(64)):
        assert (prior.count_ones(net, boolean.cube(6)[order], 500, stream=STREAM) == usual).all()
    with pytest.raises(TypeError):
        prior.count_ones(net, boolean.cube(6), 500, stream=STREAM)


@given(st.integers(1, 7), st.integers(0, 9), st.data())
def test_tables_are_packed_as_everywhere(n, many, data):
    tables = data.draw(arrays.arrays(bool, (many, 2**n)))
    assert (prior._pack(torch.from_numpy(tables.T).view(torch.uint8)) == boolean.pack(tables)).all()


# Counting them


def test_chunks_and_merges_lose_nothing_and_agree_with_the_count_of_ones(monkeypatch):
    small(monkeypatch, NET, 8, block=50)
    seen = prior.count_functions(NET, 3001, stream=STREAM)
    assert seen.counts.sum() == seen.draws == 3001
    assert len(np.unique(seen.tables, axis=0)) == len(seen.tables) == seen.distinct
    assert (np.diff(seen.counts) <= 0).all()
    by_ones = np.bincount(boolean.ones(seen.tables), weights=seen.counts, minlength=9)
    assert (by_ones == prior.count_ones(NET, CUBE, 3001, stream=STREAM)).all()


@pytest.mark.parametrize("merge", [1, 2, 30, 700])
@pytest.mark.parametrize("n", [1, 4, 7])
def test_merging_slot_by_slot_gives_what_merging_at_once_gives(monkeypatch, merge, n):
    net = nets.perceptron(n, bias_sd=1.0)
    small(monkeypatch, net, 2**n, block=20)
    at_once = prior.count_functions(net, 700, stream=STREAM)
    monkeypatch.setattr(prior, "MERGE", merge)
    assert same(prior.count_functions(net, 700, stream=STREAM), at_once)


def test_no_part_that_is_merged_is_larger_than_it_must_be(monkeypatch):
    """As many rows as were asked for, and one slot's more."""
    asked, parts, distinct = 100, [], prior._distinct
    monkeypatch.setattr(
        prior, "_distinct", lambda words, counts: (parts.append(len(words)), distinct(words, counts))[1]
    )
    monkeypatch.setattr(prior, "MERGE", asked)
    small(monkeypatch, nets.perceptron(7), 128, block=20)
    prior.count_functions(nets.perceptron(7), 2800, stream=STREAM)
    assert 15 < len(parts[20:]) < 30
    assert max(parts[20:]) < asked + 40


@every_hash
@pytest.mark.parametrize("n", [3, 4, 7])
@pytest.mark.parametrize("merge", [10, 2**22])
def test_a_bad_hash_changes_nothing_but_the_order(monkeypatch, name, n, merge):
    net = nets.perceptron(n, law=EXACT["signs"], bias_sd=1.0)
    small(monkeypatch, net, 2**n, block=20)
    expected = found(prior.count_functions(net, 500, stream=STREAM))
    monkeypatch.setattr(prior, "_hash", HASHES[name])
    monkeypatch.setattr(prior, "MERGE", merge)
    seen = prior.count_functions(net, 500, stream=STREAM)
    assert found(seen) == expected
    assert seen.distinct == len(seen.tables) == len(expected)
    assert (np.diff(seen.counts) <= 0).all()


@every_hash
@given(st.integers(0, 40), st.integers(1, 3), st.data())
def test_equal_rows_become_one_in_the_order_of_their_hash(name, rows, width, data):
    words = data.draw(arrays.arrays(np.uint64, (rows, width), elements=st.integers(0, 2)))
    counts = data.draw(arrays.arrays(np.int64, rows, elements=st.integers(1, 9)))
    expected = Counter()
    for word, count in zip(words.tolist(), counts.tolist(), strict=True):
        expected[tuple(word)] += count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "_hash", HASHES[name])
        distinct, totals = prior._distinct(words, counts)
    assert dict(zip(map(tuple, distinct.tolist()), totals.tolist(), strict=True)) == expected
    assert len(distinct) == len(expected)
    hashed = HASHES[name](distinct)
    assert (hashed[1:] >= hashed[:-1]).all()


def test_the_hash_spreads_functions_evenly_and_keeps_one_word_apart():
    words = np.arange(2**16, dtype=np.uint64)[:, None]
    for shift in (0, 16, 48):
        mixed = prior._hash(words << np.uint64(shift))
        assert len(np.unique(mixed)) == 2**16
        slots = np.bincount((mixed >> np.uint64(56)).astype(int), minlength=256)
        assert abs(slots - 256).max() < 5 * 16


def test_every_word_counts_in_the_hash():
    words = np.random.default_rng(0).integers(2**64, size=(1000, 4), dtype=np.uint64)
    for place in range(4):
        other = words.copy()
        other[:, place] ^= np.uint64(1)
        assert (prior._hash(words) != prior._hash(other)).all()
    assert (prior._hash(words) != prior._hash(words[:, ::-1])).all()


@pytest.mark.parametrize("t", [None, 4])
def test_rare_functions_can_be_left_out(monkeypatch, t):
    small(monkeypatch, NET, 8, block=50)
    monkeypatch.setattr(prior, "MERGE", 100)
    everything = prior.count_functions(NET, 3000, stream=STREAM, t=t)
    assert everything.distinct == len(everything.tables) > 10
    assert 1 in everything.counts
    for k in (2, 3, 10, int(everything.counts[0])):
        often = everything.counts >= k
        expected = everything._replace(tables=everything.tables[often], counts=everything.counts[often])
        assert 0 < len(expected.tables) < everything.distinct
        assert same(prior.count_functions(NET, 3000, stream=STREAM, t=t, at_least=k), expected)


def test_restriction_to_one_count_keeps_those_functions_and_no_others():
    everything = prior.count_functions(NET, 3000, stream=STREAM)
    for t in range(9):
        here = boolean.ones(everything.tables) == t
        expected = everything._replace(
            tables=everything.tables[here], counts=everything.counts[here], distinct=here.sum()
        )
        assert same(prior.count_functions(NET, 3000, stream=STREAM, t=t), expected)


@pytest.mark.parametrize(
    ("asked", "distinct"), [({"t": 8}, 0), ({"at_least": 3001}, 32), ({"t": 3, "at_least": 99}, 6)]
)
@pytest.mark.parametrize("chunk", [1, 100])
def test_it_may_be_that_no_function_is_kept(monkeypatch, asked, distinct, chunk):
    small(monkeypatch, nets.perceptron(3), 8, block=200, chunk=chunk)
    seen = prior.count_functions(nets.perceptron(3), 600, stream=STREAM, **asked)
    assert (seen.tables.shape, seen.unpacked().shape, seen.counts.tolist()) == ((0, 1), (0, 8), [])
    assert (seen.draws, seen.n, seen.distinct) == (600, 3, distinct)


def test_more_chunks_than_files_that_may_be_open(monkeypatch):
    small(monkeypatch, nets.perceptron(3), 8, chunk=1)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, allowed[1]))
    try:
        assert prior.count_functions(nets.perceptron(3), 200, stream=STREAM).counts.sum() == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


MEMORY = """
import resource
import numpy as np
from occamnets import boolean, nets, prior
for draws in (10**6, 2 * 10**7):
    prior.count_ones(nets.perceptron(5), boolean.cube(5), draws, stream=np.random.SeedSequence(1))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_draws():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    assert many < 1.02 * few


# With a folder and without


@pytest.mark.parametrize("net", [NET, nets.perceptron(4)], ids=["dense", "perceptron"])
def test_a_second_call_with_a_folder_does_no_work_and_gives_the_same(monkeypatch, tmp_path, net):
    n = net.layers[0].fan_in
    small(monkeypatch, net, 2**n, block=50)

    def ones(folder):
        return prior.count_ones(net, boolean.cube(n), 900, stream=STREAM, folder=folder)

    def functions(folder, **asked):
        return prior.count_functions(net, 900, stream=STREAM, folder=folder, **asked)

    first, often = functions(None), functions(None, at_least=3)
    assert same(functions(tmp_path), first)
    assert ones(tmp_path).tolist() == ones(None).tolist()
    assert len(list(tmp_path.iterdir())) == 2 * 3
    monkeypatch.setattr(prior, "_values", None)
    assert same(functions(tmp_path), first)
    assert same(functions(tmp_path, at_least=3), often)
    assert ones(tmp_path)[boolean.ones(first.tables)].all()
    with pytest.raises(TypeError):
        functions(tmp_path, t=4)


def test_without_a_folder_nothing_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert prior.count_functions(NET, 100, stream=STREAM).draws == 100
    with pytest.raises(ZeroDivisionError):
        prior.count_functions(NET._replace(law=lambda *_: 1 / 0), 100, stream=STREAM)
    assert list(tmp_path.iterdir()) == []


# Closed forms


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
    one_rules = np.any([(tables[:, x_i == 1].sum(axis=1) % 4 == 0) for x_i in CUBE.T], axis=0)
    exact = np.where(t < 3, 1 / np.array([8, 24, 48, 48])[t], np.where(one_rules, q, 1 / 3 - q) / 8)
    assert stats.decide(stats.exact_law(0.03), stats.law_test(seen.counts, exact)) == "holds"


@pytest.mark.parametrize("n", [4, 5])
def test_perceptrons_give_functions_of_the_list_and_with_enough_draws_all(n):
    listed = times(boolean.zero_threshold_functions(n))
    drawn = found(prior.count_functions(nets.perceptron(n), 100_000, stream=STREAM))
    assert drawn.keys() <= listed.keys()
    assert len(drawn) > 0.8 * len(listed)
    assert n > 4 or drawn.keys() == listed.keys()


# Errors


@pytest.mark.parametrize("t", [-1, 9])
def test_an_impossible_count_is_named(t):
    with pytest.raises(ValueError, match=f"t = {t}: .* 3 inputs .* 0 to 8"):
        prior.count_functions(NET, 10, stream=STREAM, t=t)


@pytest.mark.parametrize("k", [0, -2])
def test_an_impossible_number_of_times_is_named_before_any_work(tmp_path, k):
    with pytest.raises(ValueError, match=f"at_least = {k}: .* 1 time or more"):
        prior.count_functions(NET, 10, stream=STREAM, at_least=k, folder=tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_more_than_one_output_is_named():
    with pytest.raises(ValueError, match="needs 1 output; the network has 2"):
        prior.count_ones(nets.dense((3, 2)), CUBE, 10, stream=STREAM)
    with pytest.raises(ValueError, match="needs 1 output; the network has 2"):
        prior.count_functions(nets.dense((3, 2)), 10, stream=STREAM)


@pytest.mark.parametrize(("inputs", "n"), [(4, 5), (6, 5), (3, 4), (5, 3)])
def test_inputs_of_another_dimension_are_named(inputs, n):
    with pytest.raises(ValueError, match=f"inputs of dimension {inputs} into a network of {n} inputs"):
        prior.count_ones(nets.perceptron(n), boolean.cube(inputs), 10, stream=STREAM)


def test_no_draws_are_named():
    with pytest.raises(ValueError, match="draws = 0"):
        prior.count_ones(NET, CUBE, 0, stream=STREAM)
    with pytest.raises(ValueError, match="draws = 0"):
        prior.count_functions(NET, 0, stream=STREAM)
