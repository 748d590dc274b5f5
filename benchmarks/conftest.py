"""Collects what the benchmarks find; writes the file and the figures, prints the table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from benchmarks import report

ROOT = Path(__file__).parents[1]
FILE = ROOT / "_build" / "benchmarks.json"
RECORDED = ROOT / "results" / FILE.name
FIGURES = {"growth": report.growth, "tangent-growth": report.tangent_growth}
RECORDS = pytest.StashKey[list[report.Record]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--record``."""
    parser.addoption(
        "--record", action="store_true", help="measure the largest size too, and keep the run for the book"
    )


def pytest_configure(config: pytest.Config) -> None:
    """A place for the records."""
    config.stash[RECORDS] = []


@pytest.fixture
def add(pytestconfig: pytest.Config):
    """Adds a record, from the arguments of `benchmarks.report.record`."""
    return lambda *args, **numbers: pytestconfig.stash[RECORDS].append(report.record(*args, **numbers))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """The table; if all went well the file, and for the book its copy and the figures."""
    records = config.stash[RECORDS]
    terminalreporter.section("benchmarks")
    terminalreporter.write_line(report.table(records))
    if exitstatus == pytest.ExitCode.OK:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if config.getoption("record"):
            shutil.copyfile(FILE, RECORDED)
            plt.switch_backend("agg")
            for name, figure in FIGURES.items():
                figure(records).savefig(ROOT / "book" / "_static" / f"{name}.png")
