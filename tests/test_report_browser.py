"""The page about runs in a browser: sorting, filtering, no request, and its width on a phone and a laptop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.report.page import render
from semilearn_bbam.report.page.charts import draw_course
from semilearn_bbam.report.page.model import CORRECT, ChartGroup, Item, ItemGroup, ItemLabel, PageData
from tests.test_report_page import HOSTILE, label, run_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEA"
PIXEL += "X+XDSwAAAABJRU5ErkJggg=="
APS = [0.9, 0.1, None, 0.55, 0.123]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs a browser: no chromium, chromium-browser or google-chrome in PATH")
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if root else [])
        yield started
        started.close()


def write_page(folder: Path, runs: int) -> Path:
    """A page with hostile names, 40 labels, charts, and items with a picture and a text."""
    names = ["label 10", "label 9", "Zebra", "ant", *HOSTILE]
    names += [f"w{k}" for k in range(40 - len(names))]
    rows = tuple(
        label(
            name,
            average_precision=(APS + [0.3] * 40)[k],
            support=(3 * k) % 40,
            threshold=float("inf") if k == 1 else k / 40,
        )
        for k, name in enumerate(names)
    )
    labels = tuple(ItemLabel(name, 0.5, CORRECT) for name in names[:12])
    items = ItemGroup("Random", "Drawn.", (Item("<i>a", labels, picture=PIXEL), Item("b", labels, text="w" * 900)))
    pages = []
    for number, letter in enumerate("ABCDEFGH"[:runs], 1):
        chart = draw_course({number: [{1.0: 0.1, 2.0: 0.2}]}, HOSTILE[0], f"c{letter}")
        pages.append(
            run_page(
                letter,
                name=HOSTILE[-1] if number == 1 else "b",
                labels=rows,
                items=(items,),
                charts=(ChartGroup("Course", (chart,)),),
                yaml="x: " + "y" * 3000,
                settings={"algorithm": "z" * 400 + letter},
            )
        )
    pages[0] = replace(pages[0], notes=("n" * 400,))
    path = folder / f"page{runs}.html"
    path.write_bytes(render(PageData(tuple(pages), (), "1.0")).encode())
    return path


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """`opened(runs, width)`: a page in the browser; at the end no error was logged and nothing else was requested."""
    problems: list[str] = []
    pages: list[tuple[Any, Path, list[str]]] = []

    def open_one(runs: int = 1, width: int = 1366, **options: Any) -> Any:
        path, requests = write_page(tmp_path, runs), []
        page = browser.new_page(viewport={"width": width, "height": 844}, **options)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        pages.append((page, path, requests))
        return page

    yield open_one
    assert pages
    for page, path, requests in pages:
        assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
        page.close()
    assert problems == []


def column(page: Any, number: int) -> list[str]:
    texts: list[str] = page.eval_on_selector_all(
        f"#labels-A tbody tr:not([hidden]) > :nth-child({number})", "cells => cells.map(cell => cell.textContent)"
    )
    return texts


def header(page: Any, number: int) -> Any:
    return page.locator(f"#labels-A thead th:nth-child({number})")


def test_a_click_sorts_by_number_up_and_then_down(opened: Any) -> None:
    page = opened()
    assert column(page, 2)[:5] == ["0.900", "0.100", "–", "0.550", "0.123"]
    assert header(page, 2).get_attribute("aria-sort") == "none"
    for state in ("ascending", "descending", "ascending"):
        header(page, 2).get_by_role("button").click()
        assert header(page, 2).get_attribute("aria-sort") == state
        values = [float(text) for text in column(page, 2) if text != "–"]
        assert values == sorted(values, reverse=state == "descending")
        assert column(page, 2)[-1] == "–"  # not defined: last, both ways
    header(page, 9).get_by_role("button").click()
    assert header(page, 2).get_attribute("aria-sort") == "none"
    assert column(page, 9)[-1] == "∞"
    header(page, 9).get_by_role("button").click()
    assert column(page, 9)[0] == "∞"


def test_names_are_sorted_as_people_do(opened: Any) -> None:
    page = opened()
    header(page, 1).get_by_role("button").click()
    names = column(page, 1)
    assert names.index("label 9") < names.index("label 10") < names.index("Zebra")
    assert names.index("ant") < names.index("Zebra")


def test_the_keyboard_sorts_and_filters(opened: Any) -> None:
    page = opened()
    header(page, 7).get_by_role("button").focus()
    page.keyboard.press("Enter")
    supports = [int(text) for text in column(page, 7)]
    assert supports == sorted(supports)
    page.keyboard.press("Space")
    assert [int(text) for text in column(page, 7)] == sorted(supports, reverse=True)
    box = page.get_by_label("Filter labels")
    box.focus()
    page.keyboard.type("LABEL ")
    assert sorted(column(page, 1)) == ["label 10", "label 9"]
    assert page.locator("#labels-A .count").text_content() == "2 of 40 labels"
    header(page, 7).get_by_role("button").click()
    assert len(column(page, 1)) == 2
    box.fill("<script>")
    assert len(column(page, 1)) == 2
    box.fill("")
    assert len(column(page, 1)) == 40


@pytest.mark.parametrize("width", [390, 1366])
@pytest.mark.parametrize("runs", [1, 2, 8])
def test_nothing_is_wider_than_the_page(width: int, runs: int, opened: Any) -> None:
    page = opened(runs, width)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """() => [...document.querySelectorAll("main *, header *")].filter(one =>
            one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll, pre, svg, .hidden")
        ).map(one => one.tagName + "." + one.className)"""
    )
    assert wide == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(scheme: str, opened: Any) -> None:
    """At least 4.5 to 1, as WCAG AA asks for, of the colours of texts, lines' labels and outcomes on the page."""
    page = opened(color_scheme=scheme)
    ratios = page.evaluate(
        """() => {
        const style = getComputedStyle(document.documentElement);
        const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const light = (name) => {
            canvas.fillStyle = style.getPropertyValue("--" + name).trim();
            canvas.fillRect(0, 0, 1, 1);
            const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(value => value / 255).map(
                value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
            return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
        };
        const runs = [1, 2, 3, 4, 5, 6, 7, 8].map(k => "run" + k);
        const names = ["ink", "muted", "accent", "good", "late", "bad", ...runs];
        return names.map(name => {
            const [low, high] = [light(name), light("surface")].sort((a, b) => a - b);
            return [name, (high + 0.05) / (low + 0.05)];
        });
        }"""
    )
    assert len(ratios) == 14
    assert [name for name, ratio in ratios if ratio < 4.5] == []


def test_without_scripts_everything_can_be_read(opened: Any) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator("#labels-A tbody tr").count() == 40
    assert page.locator("button, input").count() == 0


def test_a_script_that_is_smuggled_in_does_not_run(browser: Any, tmp_path: Path) -> None:
    """Were a name not escaped, the policy would still refuse it."""
    html = write_page(tmp_path, 1).read_text(encoding="utf-8")
    (tmp_path / "bad.html").write_text(
        html.replace("<main", "<script>document.title = 'run'</script><img src='https://example.org/x.png'><main", 1),
        encoding="utf-8",
    )
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto((tmp_path / "bad.html").as_uri())
    assert page.title() != "run"
    assert len(refused) == 2
    assert all("Content Security Policy" in text for text in refused)
    page.close()
