"""The pages as a site: it builds without a warning, every page has its place, nothing of it comes from elsewhere."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.config import OPTIONS
from semilearn_bbam.run import algorithm_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
# What a browser fetches with a page, and not when a reader follows a link.
FETCHED = {"link": "href", "script": "src", "img": "src", "source": "src", "iframe": "src", "object": "data"}


def mkdocs(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("material")
    words = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(out)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(words, cwd=config.parent, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = mkdocs(ROOT / "mkdocs.yml", out)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


class Fetches(HTMLParser):
    """The addresses that a page of HTML fetches, and those that it links."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.links: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in FETCHED and values.get("rel") not in ("canonical", "next", "prev"):
            self.addresses += [str(values[key]) for key in (FETCHED[tag], "srcset") if values.get(key)]
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def pages(site: Path) -> Iterator[tuple[Path, Fetches]]:
    for page in sorted(site.rglob("*.html")):
        yield page, Fetches(page)


def navigated(entries: Any) -> Iterator[str]:
    """The pages of a navigation."""
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from navigated(value) if isinstance(value, list) else [value]


def test_no_page_fetches_from_elsewhere(site: Path) -> None:
    found = [(page.name, address) for page, fetches in pages(site) for address in fetches.addresses]
    assert len(found) > 100
    assert [pair for pair in found if re.match(r"(\w+:)?//", pair[1])] == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert [
        found for text in styles for found in re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//\S*", text)
    ] == []


def test_what_pages_fetch_and_link_is_there(site: Path) -> None:
    for page, fetches in pages(site):
        if page.name == "404.html":
            continue
        for address in (*fetches.addresses, *fetches.links):
            name = address.partition("#")[0]
            if name and not re.match(r"(\w+:)?//|mailto:|data:", name):
                assert (page.parent / name).exists(), (page.name, address)


def test_the_site_has_the_figures_and_files_that_pages_link(site: Path) -> None:
    assert (site / "results/labels_saved/figures/ohsumed_features_labels_saved.png").is_file()
    assert (site / "results/head_to_head/runs.csv").is_file()
    assert "A new method" in (site / "CONTRIBUTING.html").read_text(encoding="utf-8")
    assert (site / "search/search_index.json").stat().st_size > 100_000


def test_tables_and_lists_of_the_pages_are_rendered(site: Path) -> None:
    """Where Python-Markdown reads a page otherwise than GitHub, its marks would be left in the text."""
    for page, _ in pages(site):
        text = re.sub(r"<pre.*?</pre>|<code.*?</code>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        body = text.partition("<article")[2].partition("</article>")[0]
        assert not re.search(r"^<p>\| |^\|.*\|$|^ *(?:- |\d\. )|<p>- ", body, re.MULTILINE), page.name
        assert "```" not in body, page.name
        assert "$$" not in body, page.name
        assert '<ol start="' not in body, page.name


def test_the_navigation_names_every_page() -> None:
    named = list(navigated(SETTINGS["nav"]))
    assert len(named) == len(set(named))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert written <= set(named)
    assert all((ROOT / name).is_file() for name in set(named) - written)


def test_no_network_is_needed_by_the_settings() -> None:
    assert SETTINGS["theme"]["font"] is False
    assert SETTINGS["plugins"] == ["search"]
    assert not {"extra_javascript", "repo_url", "analytics"} & {*SETTINGS, *SETTINGS["extra"]}
    assert SETTINGS["strict"] is True


def test_the_search_finds_a_page_without_a_network(site: Path) -> None:
    """In a browser that reaches nothing but the folder, at the width of a phone; no page is wider than that."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    handler = partial(Quiet, directory=str(site))
    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, playwright.sync_playwright() as play:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}/"
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("request", lambda request: asked.append(request.url))
        for name in ("index", "configuration", "faq", "methods/bbam", "results"):
            page.goto(f"{base}{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        page.locator("label[for=__search]").first.click()
        page.locator("input.md-search__input").press_sequentially("cluster_random_share")  # it listens to keys
        page.locator(".md-search-result__item a[href*='configuration.html']").first.wait_for(timeout=60_000)
        browser.close()
        server.shutdown()
    assert asked
    assert [url for url in asked if not url.startswith((base, "data:"))] == []


def test_a_dead_link_or_anchor_ends_the_build(tmp_path: Path) -> None:
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/docs_hooks.py", tmp_path / "scripts")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copytree(ROOT / "results", tmp_path / "results", ignore=shutil.ignore_patterns("*.xz", "*.svg"))
    dead = ("nothing.md", "data.md#nothing", "../results/nothing.csv", "../results", "/data.md")
    with (tmp_path / "docs/faq.md").open("a", encoding="utf-8") as page:
        page.write("".join(f"\n[text]({link})\n" for link in dead))
    (tmp_path / "docs/left_out.md").write_text("# A page without a place\n", encoding="utf-8")
    done = mkdocs(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "  - left_out"))]
    for link in dead:
        assert any(f"'{link}'" in line for line in warnings), (link, done.stderr)
    assert "left_out.md" in done.stderr


# ---------------------------------------------------------------------- the page of options


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts/configuration.py"))


def test_the_page_of_options_is_current(script: dict[str, Any]) -> None:
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert written == script["page"](), "run python scripts/configuration.py"


def test_the_page_of_options_has_every_option_and_method(script: dict[str, Any]) -> None:
    page = script["page"]()
    for option in OPTIONS:
        assert len(re.findall(rf"^\| `{option.name}` \|", page, re.MULTILINE)) >= 1, option.name
    headings = ", ".join(re.findall(r"^### (.*)$", page, re.MULTILINE)).split(", ")
    for name in algorithm_names():
        names = {option.name for option in ALGORITHMS[name].own_options()}
        shared = {"labeled_view", "scale", "margin"} if name.startswith("ml_") else set()
        assert (name in headings) == bool(names - shared), name
        section = page.partition(f"### {name}\n")[2] or re.split(rf"^### .*\b{name}\b.*$", page, flags=re.M)[-1]
        rows = set(re.findall(r"^\| `(\w+)` \|", section.partition("\n### ")[0], re.MULTILINE))
        assert not names - shared or rows == names - shared, name


def test_options_are_shown_with_limits_choices_and_defaults_by_kind(script: dict[str, Any]) -> None:
    page = script["page"]()
    assert "| `clip` | number at least 0 and below 1 | `0.05` |" in page
    assert "| `split` | `random`, `stratified`, `clusters` | `random` |" in page
    assert "| `ema_m` | number between 0 and 1 | `0.999`; with `encoder`: `0.995` |" in page
    assert "| `mixup` | number at least 0 | `0`; `bbam_plus`: `2` |" in page
    assert "| `rot_loss_ratio` | number | images: `0.5`; texts: `0`; vectors: `0` |" in page


def test_every_option_has_a_help(script: dict[str, Any]) -> None:
    assert re.findall(r"^\| `\w+` \|.*\|\s*\|$", script["page"](), re.MULTILINE) == []
    used = {option.name for name in algorithm_names() for option in ALGORITHMS[name].own_options()}
    assert set(script["USB_HELP"]) <= used
