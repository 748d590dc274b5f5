"""Write both lock files from the version ranges of pyproject.toml, each in a fresh environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = "torch==2.13.0"


def lock(name: str, wanted: list[str]) -> None:
    """Install what is wanted into an empty environment and write down what came."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *wanted], check=True)
        found = subprocess.run([*pip, "freeze", "--all"], check=True, capture_output=True, text=True).stdout
    lines = [line.split("+")[0] for line in found.splitlines() if not line.startswith(("pip==", "wheel=="))]
    if not any(want.startswith("setuptools") for want in wanted):
        lines = [line for line in lines if not line.startswith("setuptools==")]
    header = "# Exact versions, made by `make lock` from the ranges in pyproject.toml. Run on Python 3.11.\n"
    (ROOT / name).write_text(header + "\n".join(sorted(lines, key=str.lower)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]
    lock("requirements-book.lock", extra["book"])
    lock("requirements.lock", [TORCH, *project["dependencies"], *extra["book"], *extra["dev"]])
