"""The built site in a real browser: complete, silent, offline, and readable on a phone and in the dark."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import sync_playwright

from occamnets import claims

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "test" / "html"
FIELDS = {"id", "says", "whose", "source", "notebook", "basis", "predicted", "unit", "delta", "measured", "error", "n"}
FIELDS |= {"test", "controls", "verdict", "reason"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CONTRAST = """() => [...document.querySelectorAll('.claim-says, .claim-verdict, .claim-numbers td')].map(e => {
    const linear = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const weigh = (sum, v, i) => sum + v * [.2126, .7152, .0722][i];
    const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(linear).reduce(weigh, 0);
    const [a, b] = [getComputedStyle(e).color, getComputedStyle(e.closest('.claim')).backgroundColor].map(light);
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); })"""
"""WCAG contrast ratio of every text in a claim card against the card."""
STRAY_DOLLARS = """() => [...document.querySelectorAll('article p, article li, article td')]
    .flatMap(e => [...e.childNodes]).filter(n => n.nodeType === 3 && n.data.includes('$')).map(n => n.data)"""
"""Text in which a formula's sign is left over: mathematics that was not recognised."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def site():
    """A fresh strict build: any warning fails it."""
    shutil.rmtree(SITE.parent, ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "--path-output", "_build/test"]
    command += ["-W", "--keep-going", "-n"]
    calm = {**os.environ, "PYTHONWARNINGS": "ignore"}  # Sphinx's warnings count here, not those of its dependencies
    done = subprocess.run(command, cwd=ROOT, env=calm, capture_output=True, text=True, check=False)
    built = SITE.parent / "_build" / "html"
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    built.rename(SITE)
    return SITE


@pytest.fixture(scope="session")
def pages(site):
    """Every page; the top index.html only sends the reader on."""
    found = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"index.html"}
    return sorted(name for name in found if not name.startswith("_static/"))


@pytest.fixture(scope="session")
def browser():
    if BROWSER is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium here, and CI must not skip the browser tests")
        pytest.skip("no chromium, chromium-browser or google-chrome on this machine")
    with sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield chrome
        chrome.close()


@pytest.fixture(scope="session")
def server(site):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()


def visit(browser, address, until="load", **context):
    """Open a page, wait for its mathematics, and give back the page, its requests and its console errors."""
    page = browser.new_context(**context).new_page()
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address, wait_until=until)
    page.evaluate("() => window.MathJax?.startup?.promise")
    return page, asked, errors


def test_every_page_of_the_table_of_contents_is_built(pages):
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    named = {line.split()[-1] for line in toc.splitlines() if "file:" in line or "root:" in line}
    assert {f"{name}.html" for name in named} <= set(pages)


def test_the_front_door_leads_to_the_book(browser, site):
    page = browser.new_page()
    page.goto(f"file://{site}/index.html")
    page.wait_for_url("**/book/index.html")


def test_claims_json_holds_every_stored_claim_complete(site):
    records = json.loads((site / "claims.json").read_text(encoding="utf-8"))
    stored = [
        payload["id"]
        for path in sorted(ROOT.glob("notebooks/*/*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
        for payload in claims.payloads(cell.get("outputs", []))
    ]
    assert [record["id"] for record in records] == stored
    for record in records:
        assert set(record) >= FIELDS
        assert record["controls"]
        assert record["reason"]


def test_no_source_names_another_host_for_a_resource(site):
    outside = re.compile(r"""(?:<script[^>]+src|<link[^>]+rel="?stylesheet[^>]+href|<img[^>]+src)=["'](?:https?:)?//""")
    assert not [path for path in site.rglob("*.html") if outside.search(path.read_text(encoding="utf-8"))]


def test_pages_are_silent_offline_and_fully_rendered(browser, server, site, pages):
    for start in (server, f"file://{site}/"):
        for name in pages:
            page, asked, errors = visit(browser, start + name, until="networkidle")
            assert [url for url in asked if not url.startswith((start, "data:", "blob:"))] == [], name
            if start == server:  # a file may not fetch its neighbours: searching needs a server
                assert errors == [], name
            raw = page.locator("mjx-merror, .math:not(:has(mjx-container)):not(:empty)")
            assert raw.count() == 0, (start, name, raw.all_inner_texts())
            assert page.evaluate(STRAY_DOLLARS) == [], (start, name)
            page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone(browser, server, pages, scheme):
    for name in pages:
        page, _, _ = visit(browser, server + name, viewport={"width": 390, "height": 844}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_claim_cards_can_be_read(browser, server, pages, scheme):
    seen = 0
    for name in pages:
        page, _, _ = visit(browser, server + name, color_scheme=scheme)
        ratios = page.evaluate(CONTRAST)
        seen += len(ratios)
        assert all(ratio >= 4.5 for ratio in ratios), (name, min(ratios))
        page.context.close()
    assert seen > 0
