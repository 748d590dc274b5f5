"""Recorded runs: written and read, and a hash that tells a stale record."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from occamnets import results, stats

CELL = "from occamnets import prior, plots\nimport occamnets.stats as stats\n!pip install x\n%matplotlib inline\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    return tmp_path / "results"


def notebook(code=CELL, text="# A title", outputs=()):
    code_cell = {"cell_type": "code", "source": code, "outputs": list(outputs)}
    return {"cells": [{"cell_type": "markdown", "source": text}, code_cell]}


def test_what_is_written_is_read_and_lies_sorted_on_the_disk(folder):
    record = {"b": [1, 0.1, None], "a": {"text": "1 ± 2"}}
    path = results.write("paper/chapter-01", record)
    assert path == folder / "paper" / "chapter-01.json"
    assert results.read("paper/chapter-01") == record
    assert path.read_text(encoding="utf-8") == json.dumps(record, indent=1, sort_keys=True) + "\n"


def test_a_missing_record_is_named_with_the_command_that_makes_it(folder):
    assert not folder.exists()
    with pytest.raises(FileNotFoundError, match=r"no record results.paper.none\.json; `make run SCALE=paper`"):
        results.read("paper/none")


@pytest.mark.usefixtures("folder")
def test_estimates_of_a_recorded_claim_come_back_by_name():
    seen = {name: stats.exact(value) for name, value in (("", 1.0), ("b", 2.0))}
    members = [{"name": name, "rule": None, "estimate": e._asdict()} for name, e in seen.items()]
    results.write("paper/chapter-01", {"claims": [{"id": "chapter/name", "members": members}]})
    assert results.recorded("chapter-01", "chapter/name") == seen
    with pytest.raises(KeyError, match="no claim 'chapter/other'; it has chapter/name"):
        results.recorded("chapter-01", "chapter/other")


def test_provenance_says_what_made_a_record():
    made = results.provenance(scale="paper", seed=3, device="cpu", seconds=1.26)
    assert {name: made[name] for name in ("scale", "seed", "device", "seconds")} == {
        "scale": "paper",
        "seed": 3,
        "device": "cpu",
        "seconds": 1.3,
    }
    assert set(made["versions"]) == {"python", "numpy", "scipy", "torch"}
    assert (
        made["commit"].removesuffix(" with changes") == "unknown"
        or len(made["commit"].removesuffix(" with changes")) == 40
    )


def test_before_the_first_commit_the_commit_is_unknown(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.provenance(scale="book", seed=0, device="cpu", seconds=0.0)["commit"] == "unknown"


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A copy of the library's files that a test may change."""
    copy = shutil.copytree(Path(results.__file__).parent, tmp_path / "occamnets")
    monkeypatch.setattr(results, "__file__", str(copy / "results.py"))
    return copy


def test_the_hash_sees_code_and_nothing_else_of_a_notebook():
    base = results.code_hash(notebook())
    assert base == results.code_hash(notebook(text="# Another title", outputs=[{"data": {}}]))
    assert base == results.code_hash(notebook(code=CELL.splitlines(keepends=True)))
    assert base == results.code_hash(notebook(code=CELL + "# a remark\n"))
    assert base != results.code_hash(notebook(code=CELL + "x = 1\n"))


@pytest.mark.parametrize("module", ["prior", "stats", "boolean", "chunks", "nets"])  # named, and imported by those
def test_the_hash_sees_the_modules_behind_the_code(modules, module):
    base = results.code_hash(notebook())
    with (modules / f"{module}.py").open("a") as file:
        file.write("CHANGED = 1\n")
    assert results.code_hash(notebook()) != base


def test_the_hash_is_blind_to_docstrings_and_comments(modules):
    base = results.code_hash(notebook())
    path = modules / "prior.py"
    path.write_text('"""Other words."""\n# and a remark\n' + path.read_text().split('"""', 2)[2])
    assert results.code_hash(notebook()) == base


@pytest.mark.parametrize("module", ["plots", "results", "settings", "complexity"])  # drawing, or not imported
def test_the_hash_is_blind_to_modules_that_cannot_matter(modules, module):
    base = results.code_hash(notebook())
    with (modules / f"{module}.py").open("a") as file:
        file.write("CHANGED = 1\n")
    assert results.code_hash(notebook()) == base


@pytest.mark.parametrize(
    "source",
    [
        "from occamnets import nets",
        "from occamnets.nets import Layer",
        "import occamnets.nets",
        "import occamnets.nets as n",
        "def f():\n    from occamnets import nets",
    ],
)
def test_every_way_to_import_a_module_is_seen(tmp_path, source):
    path = tmp_path / "module.py"
    path.write_text("import numpy.random\nfrom scipy import stats\n" + source)
    assert results.imported(path) == {"nets"}
