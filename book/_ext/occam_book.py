"""What this book adds to Sphinx: the scoreboard, tables of benchmarks, references to claims, what the checkout says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "lib"))
from occamnets import __version__, claims, results  # noqa: E402

LOG = logging.getLogger(__name__)
MATH = ("tex-chtml.js", "input/tex", "output/chtml", "ui")
"""The parts of MathJax that a page may load; the rest of the package, twenty megabytes, is dropped."""
PRELOAD = re.compile(r'<link rel="preload" as="font"[^>]*>')
"""Hints that a browser answers with an error on a page opened as a file."""


def notebooks(app: Sphinx) -> list[str]:
    """Names of the book's notebooks, in no order."""
    return [name for name in app.env.found_docs if (ROOT / f"{name}.ipynb").exists()]


def collect(app: Sphinx) -> dict[str, dict[str, Any]]:
    """Every claim of the book by id, from the stored outputs, in the notebooks' order; a repeated id is an error."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(notebooks(app)):
        for cell in nbformat.read(ROOT / f"{name}.ipynb", as_version=4).cells:
            for payload in claims.payloads(cell.get("outputs", [])):
                if payload["id"] in found:
                    raise ExtensionError(
                        f"claim id {payload['id']} stands in {found[payload['id']]['notebook']} and in {name}"
                    )
                found[payload["id"]] = claims.record(payload, f"{name}.ipynb")
    return found


def reseeded(record: dict[str, Any]) -> str:
    """How often a claim's verdict came out under other seeds; ``stale`` if the code has changed since."""
    notebook = ROOT / record["notebook"]
    try:
        counted = results.read(f"reseed/{notebook.parent.name}-{notebook.stem.split('_')[0]}")
    except FileNotFoundError:
        return "not recorded"
    same = counted["verdicts"].get(record["id"], {}).get(record["verdict"], 0)
    fresh = counted["code"] == results.code_hash(nbformat.read(notebook, as_version=4))
    return f"{same} of {counted['seeds']}" + ("" if fresh else " (stale)")


def depend(env: BuildEnvironment, pattern: str) -> None:
    """Build the present page again when a file of the checkout that matches has changed."""
    for path in ROOT.glob(pattern):
        env.note_dependency(str(path))


class Scoreboard(SphinxDirective):
    """``{scoreboard}``: one row a claim, made from the notebooks' stored outputs."""

    def run(self) -> list[nodes.Node]:
        """The table, and a line that counts the verdicts."""
        rows = collect(self.env.app)
        for pattern in ("notebooks/*/*.ipynb", "results/reseed/*.json", "lib/occamnets/*.py"):
            depend(self.env, pattern)
        verdicts = [record["verdict"] for record in rows.values()]
        counts = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in claims.MARK)
        head = {"Verdict": 12, "Claim": 50, "Measured": 18, "Predicted": 12, "Whose": 12, "Other seeds": 12}
        made = table(head, [self.cells(record) for record in rows.values()], "scoreboard")
        return [nodes.paragraph(text=f"{len(rows)} claims: {counts}."), made]

    def cells(self, record: dict[str, Any]) -> list[nodes.Node]:
        """One claim's cells."""
        verdict = record["verdict"]
        shown = nodes.inline(text=f"{claims.MARK[verdict]} {verdict}", classes=[f"verdict-{verdict}"])
        rule = claims.from_payload(record).members[0].rule if len(record["members"]) == 1 else None
        return [
            shown,
            ClaimReference("", nodes.Text(record["says"]), claim=record["id"]),
            nodes.Text(claims.rounded(record["measured"], record["error"])),
            nodes.Text(claims.predicted(rule) if rule else f"{len(record['members'])} numbers"),
            nodes.Text(claims.WHOSE[record["whose"]]),
            nodes.Text(reseeded(record)),
        ]


class Benchmarks(SphinxDirective):
    """``{benchmarks} group``: one row a record of that group of results/benchmarks.json.

    Its options are the columns: a field of the records and its heading.
    """

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = dict.fromkeys(
        ("name", "unit", "ours", "baseline", "ratio", "limit", "share_of_limit", "peak_mb", "note"),
        directives.unchanged,
    )

    def run(self) -> list[nodes.Node]:
        """The table."""
        depend(self.env, "results/benchmarks.json")
        records = json.loads((results.FOLDER / "benchmarks.json").read_text(encoding="utf-8"))
        group = [record for record in records if record["name"].split("/")[0] == self.arguments[0]]
        if not group:
            raise self.error(f"no record of results/benchmarks.json belongs to the group {self.arguments[0]!r}")
        rows = [[nodes.Text(self.cell(record, field)) for field in self.options] for record in group]
        return [table(dict.fromkeys(self.options.values(), 1), rows, "benchmarks")]

    @staticmethod
    def cell(record: dict[str, Any], field: str) -> str:
        """What a cell shows of a record: numbers to three digits."""
        value = record[field]
        if field == "name":
            return value.partition("/")[2]
        if field == "share_of_limit" and value is not None:
            return f"{value:.0%}"
        return f"{float(f'{value:.3g}'):,.10g}" if isinstance(value, float) else value or ""


def table(head: dict[str, int], rows: list[list[nodes.Node]], kind: str) -> nodes.table:
    """A table of headings, each with its column's width, and rows of cells."""

    def row(cells: Iterable[nodes.Node]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))

    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in head.values()), cols=len(head))
    group += nodes.thead("", row(map(nodes.Text, head)))
    group += nodes.tbody("", *map(row, rows))
    return nodes.table("", group, classes=[kind])


class ClaimReference(nodes.Inline, nodes.TextElement):
    """A link to a claim's card, made when all pages are known."""


class ClaimRole(SphinxRole):
    """``{claim}`chapter/short-name` `` links to the card and shows the verdict."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """A pending link."""
        depend(self.env, "notebooks/*/*.ipynb")
        node = ClaimReference("", claim=self.text, verdict=True)
        self.set_source_info(node)
        return [node], []


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn pending links into links; an unknown id is a warning, and so fails the strict build."""
    known = None
    for node in list(doctree.findall(ClaimReference)):
        known = collect(app) if known is None else known
        record = known.get(node["claim"])
        if record is None:
            LOG.warning("no claim has the id %r", node["claim"], location=node)
            node.replace_self(nodes.literal(text=node["claim"]))
            continue
        label = f"{claims.MARK[record['verdict']]} {node['claim']}" if node.get("verdict") else None
        text = nodes.inline(text=label, classes=[f"verdict-{record['verdict']}"]) if label else node.children
        target = record["notebook"].removesuffix(".ipynb")
        node.replace_self(make_refnode(app.builder, docname, target, claims.anchor(record["id"]), text))


def finish(app: Sphinx, failure: Exception | None) -> None:
    """Write claims.json, keep of MathJax what pages load, and make pages silent when opened as files."""
    if failure is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    (out / "claims.json").write_text(json.dumps(list(collect(app).values()), indent=1), encoding="utf-8")
    mathjax = out / "_static" / "mathjax"
    for path in sorted(mathjax.rglob("*")):
        if path.is_file() and not path.relative_to(mathjax).as_posix().startswith(MATH):
            path.unlink()
    for path in out.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        if PRELOAD.search(page):
            path.write_text(PRELOAD.sub("", page), encoding="utf-8")


def git(*words: str) -> str:
    """What git says, or nothing where there is no git or no answer."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def configure(app: Sphinx, config: Any) -> None:
    """Footer with version and date of the checkout; launch buttons where it has a GitHub remote, and only there.

    Jupyter Book always loads sphinx_thebe, whose scripts come from a CDN: it is taken out.
    """
    for event in app.events.listeners.values():
        event[:] = [listener for listener in event if not listener.handler.__module__.startswith("sphinx_thebe")]
    app.registry.css_files[:] = [file for file in app.registry.css_files if file[0] != "sphinx-thebe.css"]
    options = config.html_theme_options
    date = git("log", "-1", "--format=%cs") or "uncommitted"
    options["extra_footer"] = f"<p>Version {__version__}, {date}. Code BSD-3-Clause, text and figures CC-BY-4.0.</p>"
    remote = re.search(r"github\.com[:/]([^/]+/[^/]+?)(\.git)?$", git("remote", "get-url", "origin"))
    if remote:
        options["repository_url"] = f"https://github.com/{remote[1]}"
        options["repository_branch"] = "main"
        options["use_repository_button"] = True
        options["launch_buttons"] = {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        }


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the parts."""
    app.add_node(ClaimReference)
    app.add_directive("scoreboard", Scoreboard)
    app.add_directive("benchmarks", Benchmarks)
    app.add_role("claim", ClaimRole())
    app.connect("config-inited", configure)
    app.connect("doctree-resolved", resolve)
    app.connect("build-finished", finish, priority=900)
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}
