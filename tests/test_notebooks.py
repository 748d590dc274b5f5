"""What must be true of every stored notebook before nbval runs it."""

import base64
import re
from pathlib import Path

import nbformat
import pytest

from occamnets import claims

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*/*.ipynb"))
MARKERS = re.compile(r"nbval[-_](ignore|check|raises|skip|test)|pytest_validate|raises-exception", re.I)
RUNNABLE = {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook):
    return [cell for cell in code(notebook) if any("image/png" in out.get("data", {}) for out in cell.outputs)]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 5


@pytest.mark.parametrize("name", RUNNABLE)
class TestStoredNotebook:
    """Each stored notebook on its own."""

    def test_was_run_from_top_to_bottom(self, name):
        counts = [cell.execution_count for cell in code(RUNNABLE[name])]
        assert counts == list(range(1, len(counts) + 1))

    def test_has_no_marker_that_switches_nbval_off(self, name):
        for cell in RUNNABLE[name].cells:
            assert not MARKERS.search(cell.source + " ".join(cell.metadata.get("tags", [])))

    def test_has_no_error_and_no_stderr(self, name):
        outputs = [out for cell in code(RUNNABLE[name]) for out in cell.outputs]
        assert not [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"]

    def test_has_no_timing_metadata(self, name):
        assert not [cell for cell in RUNNABLE[name].cells if "execution" in cell.metadata]

    def test_has_only_plain_output_types(self, name):
        kinds = {kind for cell in code(RUNNABLE[name]) for out in cell.outputs for kind in out.get("data", {})}
        assert kinds <= {"text/plain", "text/html", "image/png"}

    def test_figures_have_caption_and_alt_text(self, name):
        for cell in pictures(RUNNABLE[name]):
            shown = cell.metadata["mystnb"]
            assert len(shown["figure"]["caption"]) > 40
            assert len(shown["image"]["alt"]) > 40

    def test_exported_picture_is_the_stored_one(self, name):
        for cell in pictures(RUNNABLE[name]):
            if target := cell.metadata.get("occam", {}).get("export"):
                (stored,) = (o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {}))
                assert (ROOT / target).read_bytes() == base64.b64decode(stored)

    def test_settles_claims_that_pass_the_audit(self, name):
        stored = [out for cell in code(RUNNABLE[name]) for out in cell.outputs if claims.KEY in out.get("metadata", {})]
        assert stored
        assert [problem for out in stored for problem in claims.audit(out)] == []

    def test_is_short_and_so_are_its_cells(self, name):
        assert len(RUNNABLE[name].cells) <= 50
        lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code(RUNNABLE[name])]
        assert max(lengths) <= 20

    def test_names_no_integer_seed(self, name):
        text = "\n".join(cell.source for cell in code(RUNNABLE[name]))
        assert not re.search(r"manual_seed|default_rng\(\d|SeedSequence\(\d|random\.seed", text)

    def test_opens_with_the_common_set_up_cell(self, name):
        first = code(RUNNABLE[name])[0]
        common = code(RUNNABLE[NOTEBOOKS[0].stem])[0].source.split("import matplotlib")[0]
        assert first.source.startswith(common)
        assert "hide-input" in first.metadata.tags

    def test_shows_claims_and_figures_with_their_code_folded(self, name):
        folded = [cell for cell in code(RUNNABLE[name]) if "claims.settle(" in cell.source]
        folded += pictures(RUNNABLE[name])
        assert all("hide-input" in cell.metadata.tags for cell in folded)


def test_no_claim_id_appears_twice():
    ids = [p["id"] for nb in RUNNABLE.values() for cell in code(nb) for p in claims.payloads(cell.outputs)]
    assert len(ids) == len(set(ids))


def test_every_source_is_in_the_bibliography():
    entries = set(re.findall(r"^@\w+\{(\S+),", (ROOT / "book/references.bib").read_text(encoding="utf-8"), re.M))
    named = {p["source"] for nb in RUNNABLE.values() for cell in code(nb) for p in claims.payloads(cell.outputs)}
    assert named - entries <= {"ours"}


def test_every_linked_paper_is_in_the_bibliography():
    bibliography = (ROOT / "book/references.bib").read_text(encoding="utf-8").lower()
    pages = [cell.source for nb in RUNNABLE.values() for cell in nb.cells if cell.cell_type == "markdown"]
    pages += [path.read_text(encoding="utf-8") for path in [*ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*/*.md")]]
    linked = set(re.findall(r"arxiv\.org/abs/([\d.]+\d)|doi\.org/([^\s)\"]+)|oeis\.org/(A\d+)", "\n".join(pages)))
    missing = [key for groups in linked for key in groups if key and key.lower() not in bibliography]
    assert missing == []
