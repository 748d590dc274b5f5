"""Long Monte Carlo work, cut into chunks that each have a seed of their own and run through joblib.

The seeds depend on the stream and the chunk's number alone, so a call gives the same numbers on one core, on many, or
on a cluster (``joblib.parallel_config("dask")``). With a folder, each finished chunk is a file there: the same call,
made again after a kill, computes only the chunks that are missing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import cloudpickle
import joblib
import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

Result = TypeVar("Result")


class Chunk(NamedTuple):
    """One piece of the work."""

    number: int
    """from 0"""
    count: int
    """draws in it"""
    seed: np.random.SeedSequence
    """of its generator"""


def generator(stream: np.random.SeedSequence, device: str = "cpu") -> torch.Generator:
    """A torch generator on ``device``, seeded from ``stream``."""
    return torch.Generator(device).manual_seed(int(stream.generate_state(1, np.uint64)[0] >> 1))


def run(
    work: Callable[[int, torch.Generator], Result],
    draws: int,
    size: int,
    *,
    stream: np.random.SeedSequence,
    device: str = "cpu",
    folder: Path | None = None,
    label: str = "",
) -> Iterable[Result]:
    """``work(count, generator)`` for chunks of ``size`` draws that add up to ``draws``; results in order, as they come.

    Runs on joblib's backend: one process unless a ``joblib.parallel_config`` says otherwise, and one torch thread a
    chunk. A progress bar goes to standard error (switched off by ``TQDM_DISABLE=1``). With a ``folder``, results pass
    through its files (`store`). ``ValueError`` if ``draws`` or ``size`` is below 1.
    """
    if folder is not None:
        return map(joblib.load, store(work, draws, size, stream=stream, device=device, folder=folder, label=label))
    chunks = _cut(draws, size, stream)
    return _parallel((delayed(_one)(work, chunk, device) for chunk in chunks), len(chunks), label)


def store(
    work: Callable[[int, torch.Generator], Any],
    draws: int,
    size: int,
    *,
    stream: np.random.SeedSequence,
    device: str = "cpu",
    folder: Path,
    label: str = "",
) -> list[Path]:
    """The work of `run` with each chunk's result in a file in ``folder``, for ``joblib.load``; their paths, in order.

    A file is there whole or not at all, written by the worker that did the chunk. A chunk whose file is there is not
    done again: a call that was killed loses the chunks in flight at most. The file's name stands for all that the
    result depends on (the work and its arguments, the stream, the chunk, the device, the versions of torch and NumPy,
    the source of this library), so another call never finds it. On several machines, all must see the folder.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    made_by = _hash(_pickled((work, stream.entropy, stream.spawn_key, size, device, torch.__version__, np.__version__)))
    chunks = _cut(draws, size, stream)
    paths = [folder / f"{made_by}-{chunk.number:06}-{chunk.count}" for chunk in chunks]
    missing = [(chunk, path) for chunk, path in zip(chunks, paths, strict=True) if not path.exists()]
    for _ in _parallel((delayed(_write)(work, *task, device) for task in missing), len(missing), label):
        pass
    return paths


def _cut(draws: int, size: int, stream: np.random.SeedSequence) -> list[Chunk]:
    if draws < 1 or size < 1:
        raise ValueError(f"draws = {draws}, size = {size}: both must be 1 or more")
    return [
        Chunk(i, min(size, draws - start), np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key, i)))
        for i, start in enumerate(range(0, draws, size))
    ]


def _parallel(tasks: Iterable[Any], total: int, label: str) -> Iterable[Any]:
    return tqdm(Parallel(return_as="generator")(tasks), total=total, desc=label, unit="chunk", leave=False)


def _one(work: Callable[[int, torch.Generator], Result], chunk: Chunk, device: str) -> Result:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.empty(31 * 2**20, dtype=torch.uint8)  # once that is freed, glibc keeps the memory of smaller tensors at hand
    try:
        return work(chunk.count, generator(chunk.seed, device))
    finally:
        torch.set_num_threads(threads)


def _write(work: Callable[[int, torch.Generator], Any], chunk: Chunk, path: Path, device: str) -> None:
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.unfinished")
    joblib.dump(_one(work, chunk, device), unfinished)
    unfinished.replace(path)


class _Pickler(cloudpickle.Pickler):
    """Functions by value, as cloudpickle does, but without the file and line they came from."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, CodeType):
            return self.dispatch_table[CodeType](obj.replace(co_filename="", co_firstlineno=1, co_linetable=b""))
        if isinstance(obj, torch.Tensor):  # whose own pickle holds an address
            return torch.tensor, (obj.tolist(), obj.dtype, obj.device)
        reduced = super().reducer_override(obj)
        if isinstance(obj, FunctionType) and reduced is not NotImplemented:
            make, (code, _, *rest), *state = reduced  # in place of _: the name and the file of the module
            reduced = make, (code, {}, *rest), *state
        return reduced


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


def _hash(call: bytes) -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join([call, *(path.read_bytes() for path in sources)])).hexdigest()[:16]
