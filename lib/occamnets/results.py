"""Recorded runs: small JSON files under ``results/`` that say what made them."""

from __future__ import annotations

import ast
import json
import platform
import subprocess
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

from occamnets.stats import Estimate

ROOT = Path(__file__).parents[2]
"""The checkout; the library is installed from it in place.

:meta hide-value:
"""
FOLDER = ROOT / "results"
DRAWING = {"plots", "results"}
"""Modules that cannot change a verdict, left out of `code_hash`."""


def write(name: str, record: dict[str, Any]) -> Path:
    """Write ``results/<name>.json`` (sorted, indented, one final newline) and give back its path."""
    path = FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def read(name: str) -> dict[str, Any]:
    """The record ``results/<name>.json``; ``FileNotFoundError`` names the command that makes it."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"no record {path.relative_to(ROOT)}; `make run SCALE=paper` or `make reseed` makes it")
    return json.loads(path.read_text(encoding="utf-8"))


def recorded(notebook: str, claim: str) -> dict[str, Estimate]:
    """A claim's estimates at paper scale, by member name, from ``results/paper/<notebook>.json``.

    ``KeyError`` if that run settled no such claim.
    """
    found = {payload["id"]: payload for payload in read(f"paper/{notebook}")["claims"]}
    if claim not in found:
        raise KeyError(f"results/paper/{notebook}.json has no claim {claim!r}; it has {', '.join(found)}")
    return {member["name"]: Estimate(**member["estimate"]) for member in found[claim]["members"]}


def summary(notebook: str, *claims: str) -> str:
    """What made ``results/paper/<notebook>.json``, then a line for each member of these of its claims."""
    made = read(f"paper/{notebook}")["provenance"]
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    lines = [f"{made['seconds'] / 60:.0f} minutes on {made['device']}, seed {made['seed']}, {versions}"]
    for claim in claims:
        lines += [
            f"{claim.split('/')[1]}, {name or 'value'}: {e.value:.4g}, standard error {e.error:.1g}, {e.n:,} {e.of}s"
            for name, e in recorded(notebook, claim).items()
        ]
    return "\n".join(lines)


def provenance(*, scale: str, seed: int, device: str, seconds: float) -> dict[str, Any]:
    """What made a record: settings, seconds, versions, processor and commit."""
    commit = _git("rev-parse", "--verify", "HEAD") or "unknown"
    return {
        "scale": scale,
        "seed": seed,
        "device": device,
        "seconds": round(seconds, 1),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scipy", "torch")},
        },
        "machine": platform.machine(),
        "commit": commit + (" with changes" if _git("status", "--porcelain", "lib", "notebooks", "scripts") else ""),
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def imported(path: Path) -> set[str]:
    """Names of the library's modules that a module imports, from its source text."""
    return _imported(ast.parse(path.read_text(encoding="utf-8")))


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "occamnets":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("occamnets."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("occamnets.")}
    return names


def code_hash(notebook: dict[str, Any]) -> str:
    """A hash of a notebook's code and of the library modules behind it: a record with another hash is stale.

    Comments, layout and docstrings do not count.
    """
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    trees = [ast.parse(TransformerManager().transform_cell(cell)) for cell in cells]
    waiting, modules = set().union(*map(_imported, trees)), {}
    while waiting:
        name = waiting.pop()
        path = Path(__file__).with_name(f"{name}.py")
        if name not in DRAWING and name not in modules and path.exists():
            modules[name] = _bare(ast.parse(path.read_text(encoding="utf-8")))
            waiting |= imported(path)
    return sha256(json.dumps([list(map(_bare, trees)), sorted(modules.items())]).encode()).hexdigest()[:16]


def _bare(tree: ast.AST) -> str:
    """The code without comments and docstrings, in one layout."""
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
