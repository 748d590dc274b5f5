"""Long work in chunks: one seed a chunk, the same numbers on any workers, and after a kill only what is missing."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import joblib
import numpy as np
import pytest
import torch

from occamnets import boolean, chunks, nets, prior

STREAM = np.random.SeedSequence([5, 7])


def seen(draws=23, size=5, stream=STREAM, **options):
    """What each chunk was given: draws and seed."""
    return list(chunks.run(lambda count, gen: (count, gen.initial_seed()), draws, size, stream=stream, **options))


def logged(log):
    """Work that writes its seed into a file."""

    def work(count, gen):
        with log.open("a") as lines:
            lines.write(f"{gen.initial_seed()}\n")
        return count, gen.initial_seed()

    return work


def begun(log):
    """The seeds of the chunks that were begun, in order; a chunk that was begun twice is there twice."""
    return [int(line.split()[0]) for line in log.read_text().splitlines()]


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log").touch()
    return tmp_path / "log"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "chunks"


# Seeds and order


def test_chunks_add_up_to_the_draws():
    assert [count for count, _ in seen()] == [5, 5, 5, 5, 3]
    assert [count for count, _ in seen(draws=10)] == [5, 5]
    assert [count for count, _ in seen(draws=2)] == [2]


def test_every_chunk_of_every_stream_has_a_seed_of_its_own():
    streams = [STREAM, np.random.SeedSequence([5, 8]), np.random.SeedSequence([5, 7], spawn_key=(1,))]
    seeds = [seed for stream in streams for _, seed in seen(stream=stream)]
    assert len(set(seeds)) == 15


def test_seeds_depend_on_the_stream_and_the_number_of_the_chunk_alone(folder):
    assert seen(draws=23)[:4] == seen(draws=100)[:4]
    assert [seed for _, seed in seen(draws=5, size=1)] == [seed for _, seed in seen(draws=25, size=5)]
    STREAM.spawn(3)
    assert seen() == seen() == seen(folder=folder) == seen(folder=folder)


def test_results_come_in_order_also_when_the_first_is_late():
    alone = seen(draws=4, size=1)

    def late(count, gen):
        time.sleep(0.5 * (gen.initial_seed() == alone[0][1]))
        return count, gen.initial_seed()

    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert list(chunks.run(late, 4, 1, stream=STREAM)) == alone


def test_work_has_one_thread_and_the_caller_keeps_hers(folder):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for where in (None, folder):
            assert list(chunks.run(lambda *_: torch.get_num_threads(), 2, 1, stream=STREAM, folder=where)) == [1, 1]
            assert torch.get_num_threads() == 2
            with pytest.raises(ZeroDivisionError):
                list(chunks.run(lambda *_: 1 / 0, 2, 1, stream=STREAM, folder=where))
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("draws", "size"), [(0, 5), (-1, 5), (5, 0)])
def test_impossible_sizes_are_named_at_once(folder, draws, size):
    for where in (None, folder):
        with pytest.raises(ValueError, match=f"draws = {draws}, size = {size}"):
            chunks.run(lambda *_: None, draws, size, stream=STREAM, folder=where)


# What is done, and what is there already


def test_a_finished_chunk_is_not_done_again(log, folder):
    first = chunks.store(logged(log), 23, 5, stream=STREAM, folder=folder)
    assert [joblib.load(path) for path in first] == seen()
    assert sorted(folder.iterdir()) == sorted(first)
    first[1].unlink()
    first[4].unlink()
    assert chunks.store(logged(log), 23, 5, stream=STREAM, folder=folder) == first
    assert list(chunks.run(logged(log), 23, 5, stream=STREAM, folder=folder)) == seen()
    seeds = [seed for _, seed in seen()]
    assert begun(log) == [*seeds, seeds[1], seeds[4]]


def test_more_draws_later_do_only_those(log, folder):
    chunks.store(logged(log), 23, 5, stream=STREAM, folder=folder)
    assert list(chunks.run(logged(log), 40, 5, stream=STREAM, folder=folder)) == seen(draws=40)
    assert begun(log)[5:] == [seed for _, seed in seen(draws=40)[4:]]
    assert list(chunks.run(logged(log), 10, 5, stream=STREAM, folder=folder)) == seen(draws=10)
    assert len(begun(log)) == 5 + 4


def test_after_an_error_the_finished_chunks_are_there(tmp_path, log, folder):
    third = seen()[2][1]

    def work(count, gen):
        if gen.initial_seed() == third and not (tmp_path / "mended").exists():
            raise ZeroDivisionError
        return logged(log)(count, gen)

    with pytest.raises(ZeroDivisionError):
        chunks.store(work, 23, 5, stream=STREAM, folder=folder)
    before = begun(log)
    assert len(before) == len(list(folder.iterdir())) == 2
    (tmp_path / "mended").touch()
    assert list(chunks.run(work, 23, 5, stream=STREAM, folder=folder)) == seen()
    assert begun(log) == [seed for _, seed in seen()]


def test_a_file_that_was_not_finished_is_never_read(monkeypatch, log, folder):
    dump, written = joblib.dump, []

    def half(value, path):
        written.append(path)
        dump(value, path)
        if len(written) == 3:
            path.write_bytes(path.read_bytes()[:10])
            raise KeyboardInterrupt

    monkeypatch.setattr(joblib, "dump", half)
    with pytest.raises(KeyboardInterrupt):
        chunks.store(logged(log), 23, 5, stream=STREAM, folder=folder)
    (unfinished,) = folder.glob("*.unfinished")
    assert unfinished == written[2]
    assert len(list(folder.iterdir())) == 3
    finished = chunks.store(logged(log), 23, 5, stream=STREAM, folder=folder)
    assert [joblib.load(path) for path in finished] == seen()
    assert len(set(written)) == len(written) == 3 + 3
    assert not set(written) & set(finished)
    assert len(begun(log)) == 5 + 1


# The name of a result


def base(*given):
    return given[-1].initial_seed()


def made_by(work=base, *, size=1, stream=STREAM, device="cpu"):
    return partial(chunks.store, work, 1, size, stream=stream, device=device)


def closure(value, k=1):
    return lambda count, *_, k=k: [value, [k + 1 for _ in range(count)]]


DIFFERENT = {
    "base": made_by(),
    "size": made_by(size=2),
    "stream": made_by(stream=np.random.SeedSequence([5, 8])),
    "child": made_by(stream=np.random.SeedSequence([5, 7], spawn_key=(0,))),
    "device": made_by(device="cpu:0"),
    "net": made_by(partial(base, nets.perceptron(3))),
    "inputs": made_by(partial(base, nets.perceptron(4))),
    "weights": made_by(partial(base, nets.perceptron(3, weight_sd=2.0))),
    "biases": made_by(partial(base, nets.perceptron(3, bias_sd=2.0))),
    "law": made_by(partial(base, nets.perceptron(3, law=nets.uniform))),
    "activation": made_by(partial(base, nets.perceptron(3)._replace(activation=torch.tanh))),
    "array": made_by(partial(base, np.arange(3))),
    "entry": made_by(partial(base, np.array([0, 1, 3]))),
    "type": made_by(partial(base, np.arange(3.0))),
    "lambda": made_by(closure(1)),
    "code": made_by(lambda count, *_, k=1: [1, [k + 2 for _ in range(count)]]),
    "closure": made_by(closure(2)),
    "default": made_by(closure(1, k=2)),
    "tensor": made_by(closure(torch.arange(3))),
    "tensor's entry": made_by(closure(torch.tensor([0, 1, 3]))),
    "tensor's type": made_by(closure(torch.arange(3.0))),
}


def test_calls_with_different_results_have_different_names(folder):
    names = {label: call(folder=folder)[0].name for label, call in DIFFERENT.items()}
    assert len(set(names.values())) == len(names) == len(list(folder.iterdir()))
    assert names == {label: call(folder=folder)[0].name for label, call in DIFFERENT.items()}
    STREAM.spawn(1)
    assert names["base"] == made_by()(folder=folder)[0].name


@pytest.mark.parametrize("library", [torch, np])
def test_another_version_is_another_result(monkeypatch, folder, library):
    made_by()(folder=folder)
    monkeypatch.setattr(library, "__version__", "0.1")
    made_by()(folder=folder)
    assert len(list(folder.iterdir())) == 2


def test_another_source_of_this_library_is_another_result(monkeypatch, tmp_path, folder):
    for source in ("one = 1", "one = 2"):
        (tmp_path / "module.py").write_text(source)
        monkeypatch.setattr(chunks, "__file__", str(tmp_path / "chunks.py"))
        made_by()(folder=folder)
    assert len(list(folder.iterdir())) == 2


CELL = """
import torch
from occamnets import boolean, nets, prior

scale, table = 3.0, torch.arange(4.0)

def halved(x):
    "By two."
    return x / 2

def law(shape, gen):
    factors = lambda: [scale * halved(table) for _ in range(2)]
    return torch.randn(shape, generator=gen) + factors()[1].mean()

def counts(stream, folder):
    return prior.count_ones(nets.perceptron(4, law=law), boolean.cube(4), 9, stream=stream, folder=folder)
"""
"""As in a notebook: functions of ``__main__``, global numbers, another function, one inside."""


def run_cell(source, file="<cell>", **variables):
    """The variables of ``__main__`` after it."""
    variables = {"__name__": "__main__"} | variables
    exec(compile(source, file, "exec"), variables)
    return variables


def test_a_law_that_only_moved_is_the_same(folder):
    first = run_cell(CELL)["counts"](STREAM, folder)
    split = CELL.replace("/ 2", "/ (\n    2\n)")
    for source, file in ((f"\n\n{CELL}", "<cell>"), (CELL, "/another/file.py"), (split, "<cell>")):
        assert (run_cell(source, file, __file__=file)["counts"](STREAM, folder) == first).all()
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("old", "new"), [("3.0,", "3.5,"), ("(4.0)", "(5.0)"), ("x / 2", "x / 3"), ("range(2)", "range(3)"), ("[1]", "[0]")]
)
def test_a_law_that_changed_is_another(folder, old, new):
    for source in (CELL, CELL.replace(old, new)):
        run_cell(source)["counts"](STREAM, folder)
    assert len(list(folder.iterdir())) == 2


def test_another_process_finds_what_this_one_did(folder):
    run_cell(CELL)["counts"](STREAM, folder)
    (written,) = folder.iterdir()
    when = written.stat().st_mtime_ns
    there = f"import numpy, pathlib\n{CELL}\ncounts(numpy.random.SeedSequence([5, 7]), pathlib.Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", there], env=os.environ | {"PYTHONHASHSEED": "5"}, check=True)
    assert list(folder.iterdir()) == [written]
    assert written.stat().st_mtime_ns == when


# Kills and workers

HELD = """
import os
import time
from pathlib import Path

import numpy as np
from occamnets import boolean, nets, prior

folder = Path({folder!r})
log, hold = folder.parent / "log", folder.parent / "hold"

def law(shape, gen):
    with log.open("a") as lines:
        lines.write(f"{{gen.initial_seed()}} {{os.getpid()}}\\n")
    while hold.exists() and len(log.read_text().splitlines()) > 4:
        time.sleep(0.01)
    return nets.gaussian(shape, gen)

def counts(law=law, folder=folder):
    net, stream = nets.perceptron(7, law=law), np.random.SeedSequence([5, 7])
    return prior.count_ones(net, boolean.cube(7), 12 * prior._block(net, 128) - 1, stream=stream, folder=folder)
"""
"""Twelve chunks, once chunks have one block. While a file is there, the fifth that is begun comes to no end."""


@pytest.fixture
def held(monkeypatch, tmp_path, folder):
    (tmp_path / "hold").touch()
    monkeypatch.setattr(prior, "CHUNK", 1)
    return run_cell(HELD.format(folder=str(folder)))["counts"]


def wait_until(condition):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + 120, "waited for two minutes"
        time.sleep(0.01)


def finished(folder):
    """Finished chunks, and when each was."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*") if path.suffix != ".unfinished"}


def test_after_a_kill_the_same_call_does_what_is_missing(tmp_path, log, folder, held):
    script = f"from occamnets import prior\nprior.CHUNK = 1\n{HELD.format(folder=str(folder))}\ncounts()"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        wait_until(lambda: len(begun(log)) == 5)
        process.kill()
    (tmp_path / "hold").unlink()
    before = finished(folder)
    assert (process.returncode, len(before)) == (-signal.SIGKILL, 4)
    assert (held() == held(law=nets.gaussian, folder=None)).all()
    assert len(finished(folder)) == 12
    assert before.items() <= finished(folder).items()
    assert len(begun(log)) == 5 + 8
    assert len(set(begun(log))) == 12


@pytest.fixture(scope="module")
def cluster():
    from dask.distributed import Client, LocalCluster

    address = "127.0.0.1:0"  # any free port: the other test process may have a cluster too
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": address}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(params=["loky", "dask"])
def workers(request):
    """Two processes."""
    if request.param == "dask":
        request.getfixturevalue("cluster")
    return partial(joblib.parallel_config, backend=request.param, n_jobs=2)


@pytest.mark.parametrize("kept", [False, True], ids=["without a folder", "with one"])
def test_one_worker_and_two_give_the_same_numbers(monkeypatch, workers, folder, kept):
    monkeypatch.setattr(prior, "CHUNK", 1)
    net = nets.perceptron(7, law=lambda shape, gen: nets.gaussian(shape, gen) + 1, bias_sd=1.0)
    draws = 4 * prior._block(net, 128) - 1

    def counted(folder):
        ones = prior.count_ones(net, boolean.cube(7), draws, stream=STREAM, folder=folder)
        functions = prior.count_functions(net, draws, stream=STREAM, t=120, at_least=2, folder=folder)
        return ones.tolist(), functions.tables.tolist(), functions.counts.tolist(), functions.distinct

    alone = counted(None)
    with workers():
        assert counted(folder if kept else None) == alone
    if kept:
        assert len(list(folder.iterdir())) == 2 * 4
        monkeypatch.setattr(prior, "_values", None)
        assert counted(folder) == alone


def test_inputs_so_large_that_they_are_read_only_for_workers(workers):
    """Above 1 MB joblib hands an array over as a file."""
    inputs = boolean.cube(15)[::-1]
    alone = prior.count_ones(nets.perceptron(15), inputs, 3, stream=STREAM)
    with workers():
        assert (prior.count_ones(nets.perceptron(15), inputs, 3, stream=STREAM) == alone).all()


@pytest.mark.parametrize("kept", [False, True], ids=["without a folder", "with one"])
def test_a_worker_that_is_killed_costs_time_and_no_numbers(tmp_path, cluster, log, folder, held, kept):
    undisturbed = held(law=nets.gaussian, folder=None)
    cluster.wait_for_workers(2, timeout=120)

    def kill():
        try:
            wait_until(lambda: len(begun(log)) > 4)
            victim = int(log.read_text().split()[-1])
            os.kill(victim, signal.SIGKILL)
            return victim
        finally:
            (tmp_path / "hold").unlink()

    with ThreadPoolExecutor() as beside, joblib.parallel_config(backend="dask"):
        victim = beside.submit(kill)
        assert (held(folder=folder if kept else None) == undisturbed).all()
    assert victim.result() not in cluster.run(os.getpid).values()
    assert len(begun(log)) > len(set(begun(log))) == 12
    assert len(finished(folder)) == 12 * kept
