"""The files around the book agree with one another."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement

import occamnets

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRA = PROJECT["optional-dependencies"]
FILES = SimpleNamespace(css_files=[])


def locked(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.lower().split("==") for line in lines if "==" in line and not line.startswith("#"))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", [*PROJECT["dependencies"], *EXTRA["book"], *EXTRA["dev"]]),
        ("requirements-book.lock", EXTRA["book"]),
    ],
)
def test_every_range_holds_its_locked_version(lock, wanted):
    versions = {normal(name): version for name, version in locked(lock).items()}
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[normal(requirement.name)]), requirement


def test_both_locks_agree():
    full, book = locked("requirements.lock"), locked("requirements-book.lock")
    assert {name: full[name] for name in book} == book


def test_torch_is_locked_without_a_local_suffix_and_only_in_the_full_lock():
    assert locked("requirements.lock")["torch"] == "2.13.0"
    assert not {"torch", "jupyterlab"} & set(locked("requirements-book.lock"))


def test_environment_and_devcontainer_use_the_lock():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pip = next(part["pip"] for part in conda["dependencies"] if isinstance(part, dict))
    assert "-r requirements.lock" in pip
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert "requirements.lock" in json.dumps(container)


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name)
def test_workflows_parse_and_call_what_exists(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step.get("run", "") for step in steps)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert ".ci/run" in commands or any(f"make {target}" in commands for target in targets)


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == occamnets.__version__


def test_readme_names_only_targets_and_files_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in re.findall(r"`?make (\w+)", readme))
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_library_page_shows_every_module_once():
    shown = re.findall(r"automodule:: occamnets\.(\w+)", (ROOT / "book/api.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(path.stem for path in (ROOT / "lib/occamnets").glob("[!_]*.py"))


def test_every_page_stands_in_the_table_of_contents_once():
    toc = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [*ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*/*.md"), *ROOT.glob("notebooks/*/*.ipynb")]
    assert sorted(toc) == sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in pages)


@pytest.fixture
def extension(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book/_ext"))
    import occam_book

    return occam_book


@pytest.mark.parametrize(
    ("remote", "buttons"),
    [
        ("", False),
        ("/somewhere/occams-networks", False),
        ("https://github.com/someone/occams-networks.git", True),
        ("git@github.com:someone/occams-networks.git", True),
    ],
)
def test_launch_buttons_appear_with_a_github_remote_and_only_then(extension, monkeypatch, remote, buttons):
    monkeypatch.setattr(extension, "git", lambda *words: remote if words[0] == "remote" else "2026-01-01")
    config = SimpleNamespace(html_theme_options={})
    extension.configure(SimpleNamespace(events=SimpleNamespace(listeners={}), registry=FILES), config)
    assert ("launch_buttons" in config.html_theme_options) is buttons
    assert config.html_theme_options.get("repository_url", "https://github.com/someone/occams-networks") == (
        "https://github.com/someone/occams-networks"
    )
    assert occamnets.__version__ in config.html_theme_options["extra_footer"]


def test_jupyterlab_accepts_its_myst_extension():
    calm = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [Path(sys.executable).with_name("jupyter"), "labextension", "list"]
    done = subprocess.run(command, env=calm, capture_output=True, text=True, check=False)
    assert re.search(r"jupyterlab-myst .*enabled.*OK", done.stdout + done.stderr), done.stderr
