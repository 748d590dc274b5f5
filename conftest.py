"""Shared by all tests: quiet single-threaded kernels, and the hook that makes nbval understand claims."""

from __future__ import annotations

import os

import pytest
from nbval.plugin import IPyNbCell

QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "error"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def pytest_configure() -> None:
    """Kernels inherit this environment: no ``OCCAM_*``, one thread, no progress bar, warnings as errors."""
    for name in [name for name in os.environ if name.startswith("OCCAM_")]:
        del os.environ[name]
    os.environ.update(QUIET | ONE_THREAD)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """After a notebook's cell ran as nbval wants it: its claims are those that the stored outputs record."""
    result = yield
    if isinstance(item, IPyNbCell):
        from occamnets import claims  # only now: the shape checker must be in place before the library is imported

        problems = [
            problem
            for out in item.cell.outputs
            if claims.KEY in out.get("metadata", {})
            for problem in claims.audit(out)
        ]
        stored, fresh = list(claims.payloads(item.cell.outputs)), list(claims.payloads(item.test_outputs))
        if len(stored) != len(fresh):
            problems.append(f"{len(stored)} claims are stored, {len(fresh)} came out")
        problems += [problem for pair in zip(stored, fresh, strict=False) for problem in claims.compare(*pair)]
        if problems:
            item.raise_cell_error("Claims differ", "\n".join(problems))
    return result
