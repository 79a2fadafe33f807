"""The page about runs as HTML: what it holds, that no name or text becomes markup, and its charts."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from semilearn_bbam.report.page import render
from semilearn_bbam.report.page.charts import _steps, draw_course, draw_precision_recall, draw_scores
from semilearn_bbam.report.page.figures import precision_recall_charts, typical_labels
from semilearn_bbam.report.page.labels import label_rows
from semilearn_bbam.report.page.model import (
    CORRECT,
    ChartGroup,
    Item,
    ItemGroup,
    ItemLabel,
    LabelRow,
    PageData,
    RunPage,
    ScoredPart,
)
from semilearn_bbam.report.page.render import FILTERED, FOLDER
from semilearn_bbam.report.page.views import compared_labels, metric_groups, setting_rows

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "' onmouseover='alert(4)",
    "{{ 7 * 7 }} {% raw %}",
    "&lt;b&gt; &amp; --> ]]>",
    "🦊 fox 👩‍👩‍👧",
    "תווית עברית",
    "\u202eevil",
    "w" * 2000,
]
UNPRINTABLE = ["nul\x00 and \x1b[31m", "lone \ud800 surrogate"]


class Elements(HTMLParser):
    """The elements of a document with their attributes, the texts of its table headers, and its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.inside: str = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.texts).append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def label(name: str, **changes: Any) -> LabelRow:
    return replace(LabelRow(name, 0.5, 0.4, 0.3, 0.35, 0.2, 12, 3, 0.41), **changes)


def run_page(letter: str = "A", **changes: Any) -> RunPage:
    metrics = {"mAP": 0.5, "macro_f1": 0.4, "micro_f1": 0.45, "hamming_loss": 0.1, "oracle_macro_f1": 0.9}
    page = RunPage(
        letter=letter,
        name=f"run {letter}",
        algorithm="bbam",
        facts=(("Method", "bbam"), ("Data", "vectors")),
        settings={"algorithm": "bbam", "margin": 0.4},
        yaml="algorithm: bbam\n",
        metrics={"test": metrics, "test_prior": metrics | {"macro_f1": 0.6}},
        decided_at="prior",
        labels=(label("cat"), label("dog")),
        versions={"torch": "2.11"},
    )
    return replace(page, **changes)


def page_of(*runs: RunPage, **changes: Any) -> PageData:
    return replace(PageData(runs, (), "1.0"), **changes)


# ---------------------------------------------------------------------- safety


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_or_text_becomes_markup(text: str) -> None:
    chart = draw_course({1: [{1.0: 0.1, 2.0: 0.2}]}, text, "c", caption=text)
    item = Item(text, (ItemLabel(text, 0.5, CORRECT),), text=text)
    hostile = run_page(
        name=text,
        facts=(("Data", text),),
        settings={"margin": text},
        yaml=text,
        labels=(label(text),),
        charts=(ChartGroup("Scores", (chart,)),),
        items=(ItemGroup("Random", "x", (item,)),),
        notes=(text,),
        versions={"torch": text},
    )
    plain = replace(hostile, labels=(label("plain"),), items=(), notes=(), charts=(), name="x", yaml="x")
    for runs in ((hostile,), (hostile, replace(plain, letter="B"))):
        page = Elements(render(page_of(*runs, notes=(text,))))
        tags = [tag for tag, _ in page.elements]
        assert tags.count("script") == 1
        assert "".join(page.scripts) == (FOLDER / "sort.js").read_text(encoding="utf-8")
        assert "img" not in tags
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert not [value for _, attributes in page.elements for value in [attributes.get("src")] if value]
        shown = text if len(text) <= 160 else "w" * 159 + "…"
        assert page.texts.count(shown) >= 4
        if len(text) > 160:  # its whole is in a title
            assert text in [attributes.get("title") for _, attributes in page.elements]


@pytest.mark.parametrize("text", UNPRINTABLE)
def test_what_html_does_not_allow_is_replaced(text: str) -> None:
    html = render(page_of(run_page(labels=(label(text),))))
    assert html.encode("utf-8")
    assert not re.search("[\x00\x1b\ud800]", html)
    assert "\N{REPLACEMENT CHARACTER}" in html


def test_the_policy_allows_the_one_script_and_no_request() -> None:
    page = Elements(render(page_of(run_page())))
    policy = next(values["content"] for tag, values in page.elements if values.get("http-equiv")) or ""
    digest = base64.b64encode(hashlib.sha256("".join(page.scripts).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|unsafe-eval|\*", policy)
    assert not [values for tag, values in page.elements if tag in ("iframe", "object", "embed", "form", "base")]
    assert [values["href"] for tag, values in page.elements if tag == "link"] == ["data:,"]


def test_the_same_data_give_the_same_page() -> None:
    def page() -> str:
        chart = draw_course({1: [{1.0: 0.1, 2.0: 0.2}]}, "loss", "c")
        return render(page_of(run_page(charts=(ChartGroup("Course", (chart,)),))))

    assert page() == page()


# ---------------------------------------------------------------------- content


def test_metrics_are_under_their_protocol_and_the_oracle_is_collapsed() -> None:
    html = render(page_of(run_page()))
    parts = re.split(r"<(?:h3|summary)>", html)
    by_title = {part.partition("<")[0]: part for part in parts}
    assert "0.500" in by_title["Ranking"]
    assert "0.400" in by_title["Decisions at 0.5"]
    assert "0.600" in by_title["Decisions at prior thresholds"]
    assert "0.900" in by_title["Oracle"]
    assert "0.900" not in html.partition("<details>")[0]
    assert "Decisions at tuned thresholds" not in by_title
    tuned = run_page(metrics={"test": {"mAP": 0.5}, "test_tuned": {"macro_f1": 0.7}})
    assert [group.title for group in metric_groups([tuned])] == ["Ranking", "Decisions at tuned thresholds"]


def test_the_best_of_a_row_is_marked_but_not_of_a_run_that_was_given_labels() -> None:
    def best(*runs: RunPage) -> dict[str, list[bool]]:
        return {
            row.words: [value.best for value in row.values]
            for group in metric_groups(runs)
            for row in group.rows
            if not group.collapsed
        }

    low = run_page(metrics={"test": {"mAP": 0.4, "hamming_loss": 0.1}})
    high = run_page("B", metrics={"test": {"mAP": 0.6, "hamming_loss": 0.2}})
    assert best(low, high) == {"mAP": [False, True], "Hamming loss": [True, False]}
    assert best(low, replace(high, mark="given"))["mAP"] == [True, False]
    equal = replace(low, letter="B", mark="given")
    assert best(low, equal) == {"mAP": [True, False], "Hamming loss": [True, False]}
    assert best(low)["mAP"] == [False]
    missing = replace(high, metrics={})
    assert best(low, missing)["mAP"] == [False, False]  # there is nothing to compare with
    assert "–" in render(page_of(low, missing))


def test_several_runs_are_side_by_side() -> None:
    first = run_page(labels=(label("cat", average_precision=0.2), label("dog", average_precision=None)))
    second = run_page("B", labels=(label("dog"), label("cat", average_precision=0.7), label("cow")))
    second = replace(second, settings={"algorithm": "bbam", "margin": 0.2, "save_name": "b"})
    rows = compared_labels([first, second])
    assert [row.name for row in rows] == ["cat", "dog", "cow"]
    assert rows[0].difference == pytest.approx(0.5)
    assert rows[1].difference is None
    assert rows[2].rows[0] is None
    third = replace(first, letter="C", labels=(label("cat", average_precision=0.1),))
    assert compared_labels([first, second, third])[0].difference == pytest.approx(0.6)
    assert setting_rows([first, second]) == [("margin", ("0.4", "0.2"))]
    assert setting_rows([first, replace(first, letter="B")]) == []
    html = render(page_of(first, second))
    assert all(f'id="{place}"' in html for place in ("compared", "run-A", "run-B", "labels-A", "labels-B"))
    assert "+0.500" in html
    assert "Settings in which the runs differ" in html


def test_a_single_run_shows_the_settings_that_are_not_defaults() -> None:
    settings = {"algorithm": "bbam", "margin": 0.4, "epoch": 7, "seed": 0, "save_name": "x"}
    assert dict(setting_rows([run_page(settings=settings)])) == {
        "algorithm": ("bbam",),
        "margin": ("0.4",),
        "epoch": ("7",),
    }


def test_missing_parts_are_stated() -> None:
    bare = run_page(labels=(), items_note="Left out: the data are gone.", versions={}, notes=("Mind this.",))
    html = render(page_of(bare, charts=(ChartGroup("Course", (), ("Training loss: no run logged one.",)),)))
    for words in ("Left out: the data are gone.", "Training loss: no run logged one.", "Mind this."):
        assert words in html
    unfinished = run_page(finished=False, progress="It has logged 3 of 9 epochs.", metrics={}, labels=())
    html = render(page_of(unfinished))
    assert "has not ended" in html
    assert "It has logged 3 of 9 epochs." in html
    assert 'id="metrics"' not in html
    assert "Items of the test part" not in html


@pytest.mark.parametrize(("count", "has_filter"), [(FILTERED - 1, False), (FILTERED, True), (260, True)])
def test_many_labels_have_a_filter(count: int, has_filter: bool) -> None:
    html = render(page_of(run_page(labels=tuple(label(f"label {k}") for k in range(count)))))
    assert (" data-filter>" in html) == has_filter
    assert html.count('data-v="0.41"') == count


def test_a_value_that_is_not_defined_has_no_number_to_sort_by() -> None:
    html = render(page_of(run_page(labels=(label("x", average_precision=None, threshold=float("inf")),))))
    row = re.search(r"<tr><th[^>]*><bdi>x.*?</tr>", html, re.DOTALL)
    assert row
    cells = re.findall(r"<td([^>]*)>(.*?)</td>", row[0])
    assert cells[0] == (' class="n"', "–")
    assert cells[-1] == (' class="n" data-v="Infinity"', "∞")


# ---------------------------------------------------------------------- labels


def test_label_rows_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((50, 4)).astype(np.float32)
    targets = rng.random((50, 4)) < [0.5, 0.2, 0.0, 0.1]
    known = rng.random((50, 4)) < 0.8
    thresholds = np.array([0.4, 0.6, 0.5, np.inf], np.float32)
    rows = label_rows(list("abcd"), (), thresholds, "prior", ScoredPart(scores, targets, known), np.arange(4))
    for k, row in enumerate(rows):
        hits = wrong = missed = cells = 0
        for i in range(50):
            if known[i, k]:
                cells += 1
                predicted = scores[i, k] >= thresholds[k]
                hits += int(predicted and targets[i, k])
                wrong += int(predicted and not targets[i, k])
                missed += int(not predicted and targets[i, k])
        assert (row.support, row.known, row.labeled) == (hits + missed, cells, k)
        assert row.precision == (pytest.approx(hits / (hits + wrong)) if hits + wrong else None)
        assert row.recall == (pytest.approx(hits / (hits + missed)) if hits + missed else None)
        total = 2 * hits + wrong + missed
        assert row.f1 == pytest.approx(2 * hits / max(total, 1))
    assert rows[0].average_precision == pytest.approx(
        average_precision_score(targets[known[:, 0], 0], scores[known[:, 0], 0])
    )
    assert rows[2].average_precision is None
    assert rows[3].precision is None
    everywhere = ScoredPart(scores, targets, np.ones_like(known))
    assert label_rows(list("abcd"), (), thresholds, "prior", everywhere, None)[0].known is None


def test_without_scores_the_rows_are_what_the_run_recorded() -> None:
    recorded = [{"label": "a", "positives": 3, "average_precision": None, "f1": 0.1, "f1_prior": 0.2}]
    row = label_rows(["a"], recorded, np.array([0.3]), "prior", None, None)[0]
    assert (row.f1, row.f1_half, row.support, row.precision, row.labeled) == (0.2, 0.1, 3, None, None)
    assert label_rows(["a"], recorded, np.array([0.5]), "0.5", None, None)[0].f1 == 0.1


# ---------------------------------------------------------------------- charts


def test_charts_of_one_page_share_no_identifier() -> None:
    values = np.linspace(0, 1, 60)
    targets = values > 0.4
    charts = [
        draw_course({1: [{1.0: 0.1, 2.0: 0.2}], 2: [{1.0: 0.3}]}, "loss", "c"),
        draw_precision_recall({1: (values, targets)}, "cat", "p"),
        draw_scores(values, targets, {"0.5": 0.5, "prior": float("inf")}, "cat", "s1"),
        draw_scores(values, targets, {"0.5": 0.5, "prior": 0.2}, "cat", "s2"),
    ]
    html = render(page_of(run_page(charts=(ChartGroup("Charts", tuple(charts)),))))
    ids = [values["id"] for _, values in Elements(html).elements if values.get("id")]
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html))
    assert {a or b for a, b in references} <= set(ids)
    assert len([name for name in ids if name and name.startswith("s1-")]) > 0
    for chart in charts:
        assert chart.svg.startswith("<svg")
        assert not re.search(r"<style|<metadata|<!DOCTYPE|<script|#0[12]0[0-9]", chart.svg)
        assert "var(--muted)" in chart.svg
        assert f'aria-label="{chart.shown}"' in html
    assert "prior" not in charts[2].caption


@pytest.mark.parametrize("ties", [False, True])
def test_the_steps_of_precision_and_recall_have_the_area_of_the_ap(ties: bool) -> None:
    rng = np.random.default_rng(1)
    targets = rng.random(400) < 0.3
    scores = rng.random(400) + targets
    scores[np.flatnonzero(~targets)[:2]] = 3  # so that the curve does not begin at 1
    scores = scores.round(1) if ties else scores
    recall, precision = _steps(*precision_recall_curve(targets, scores)[:2])
    area = sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))
    assert area == pytest.approx(average_precision_score(targets, scores))


def test_labels_of_charts_have_positives_enough_where_any_has() -> None:
    targets = np.zeros((30, 5), dtype=bool)
    for k, count in enumerate((2, 20, 0, 9, 5)):
        targets[:count, k] = True
    part = ScoredPart(np.zeros((30, 5), np.float32), targets, np.ones((30, 5), dtype=bool))
    assert typical_labels(part) == [1, 3, 4]
    rare = ScoredPart(part.scores[:, :1], targets[:, :1], part.known[:, :1])
    assert typical_labels(rare) == [0]
    none = ScoredPart(part.scores[:, 2:3], targets[:, 2:3], part.known[:, 2:3])
    assert typical_labels(none) == []
    group = precision_recall_charts({2: part, 1: none}, {2: list("abcde"), 1: ["b"]})
    assert [chart.title for chart in group.charts] == ["all labels, micro-averaged", "b", "d", "e"]
    assert precision_recall_charts({}, {}).missing
    assert precision_recall_charts({1: none}, {1: ["c"]}).charts == ()
