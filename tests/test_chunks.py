"""Long work in chunks: one seed a chunk, the same numbers on one worker or two."""

import time

import joblib
import numpy as np
import pytest
import torch

from occamnets import boolean, chunks, nets, prior

STREAM = np.random.SeedSequence([5, 7])


def seen(draws=23, size=5, stream=STREAM):
    """What each chunk was given: draws and seed."""
    return list(chunks.run(lambda count, gen: (count, gen.initial_seed()), draws, size, stream=stream))


def test_chunks_add_up_to_the_draws():
    assert [count for count, _ in seen()] == [5, 5, 5, 5, 3]
    assert [count for count, _ in seen(draws=10)] == [5, 5]
    assert [count for count, _ in seen(draws=2)] == [2]


def test_every_chunk_of_every_stream_has_a_seed_of_its_own():
    streams = [STREAM, np.random.SeedSequence([5, 8]), np.random.SeedSequence([5, 7], spawn_key=(1,))]
    seeds = [seed for stream in streams for _, seed in seen(stream=stream)]
    assert len(set(seeds)) == 15


def test_seeds_depend_on_the_stream_and_the_number_of_the_chunk_alone():
    assert seen(draws=23)[:4] == seen(draws=100)[:4]
    assert [seed for _, seed in seen(draws=5, size=1)] == [seed for _, seed in seen(draws=25, size=5)]
    STREAM.spawn(3)
    assert seen() == seen()


def test_one_worker_and_two_give_the_same_numbers(monkeypatch):
    monkeypatch.setattr(prior, "CHUNK", 2**12)

    def counted():
        return prior.count_ones(nets.perceptron(4), boolean.cube(4), 5000, stream=STREAM)

    alone = counted()
    with joblib.parallel_config(backend="loky", n_jobs=2):
        together = counted()
    assert (alone == together).all()


def test_results_come_in_order_also_when_the_first_is_late():
    alone = seen(draws=4, size=1)

    def late(count, gen):
        time.sleep(0.5 * (gen.initial_seed() == alone[0][1]))
        return count, gen.initial_seed()

    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert list(chunks.run(late, 4, 1, stream=STREAM)) == alone


def test_work_has_one_thread_and_the_caller_keeps_hers():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(chunks.run(lambda *_: torch.get_num_threads(), 2, 1, stream=STREAM)) == [1, 1]
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            list(chunks.run(lambda *_: 1 / 0, 2, 1, stream=STREAM))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("draws", "size"), [(0, 5), (-1, 5), (5, 0)])
def test_impossible_sizes_are_named_at_once(draws, size):
    with pytest.raises(ValueError, match=f"draws = {draws}, size = {size}"):
        chunks.run(lambda *_: None, draws, size, stream=STREAM)
