"""Whether the flagship is ahead of the best other method."""

from __future__ import annotations

import pytest

from semilearn_bbam.report.columns import metric_of
from semilearn_bbam.report.lead import lead_text, leads
from tests.comparison_runs import seeds
from tests.conftest import has_line

MAP, ERROR = metric_of("mAP"), metric_of("one-error")
RUNS = [
    *seeds("ours", [0.5, 0.7]), *seeds("near", [0.4, 0.4]), *seeds("far", [0.1, 0.1]), *seeds("ours_too", [0.6, 0.7]),
    *seeds("top", [0.9, 0.9], hidden="all"), *seeds("leaky", [0.8, 0.8], hidden="leak"),
    *seeds("named_top", [0.9, 0.9]),
    *seeds("ours", [0.5, 0.5], ratio=0.1), *seeds("near", [0.6, 0.7], ratio=0.1), *seeds("near", [0.1], ratio=0.2),
]  # fmt: skip


def test_the_best_other_is_neither_a_variant_nor_a_ceiling() -> None:
    found = leads(RUNS, "ours", MAP, "prior", ["ours_too", "named_top"])
    assert {place: lead.other for place, lead in found.items()} == {("d", 0.05): "near", ("d", 0.1): "near"}
    lead = found["d", 0.05]
    assert lead.differences == pytest.approx([0.1, 0.3])
    # t = 0.2 / 0.1 = 2 with one degree of freedom, p = 1 - 2 atan(2) / pi.
    assert lead.p_value == pytest.approx(0.2952, abs=1e-4)
    assert leads(RUNS, "ours", MAP, "prior", ["named_top"])["d", 0.05].other == "ours_too"
    assert leads(RUNS, "ours", ERROR, "prior", ["ours_too", "named_top"])["d", 0.05].other == "near"


def test_a_method_with_fewer_seeds_is_compared_on_the_seeds_that_both_have() -> None:
    runs = seeds("ours", [0.5, 0.1, 0.1]) + seeds("other", [0.3, 0.1, 0.1]) + seeds("lucky", [0.4])
    found = leads(runs, "ours", MAP, "prior")
    assert found["d", 0.05].other == "other"  # .07 behind in the mean; lucky is .1 behind on its seed
    assert leads([*runs[:3], *seeds("lucky", [0.4])], "ours", MAP, "prior")["d", 0.05].p_value is None


def test_only_what_is_ahead_is_significant() -> None:
    ahead, behind = [0.5, 0.6, 0.72, 0.8], [0.4, 0.5, 0.6, 0.7]
    runs = seeds("a", ahead) + seeds("b", behind)
    assert leads(runs, "a", MAP, "prior")["d", 0.05].significant
    lost = leads(runs, "b", MAP, "prior")["d", 0.05]
    assert lost.p_value is not None
    assert lost.p_value < 0.001
    assert not lost.significant


def test_the_lead_in_words() -> None:
    text = lead_text(RUNS, "ours", ["ours_too"], ["named_top"], {"near": "the near one"})
    caption, table, _ = text.split("\n\n")
    assert has_line(caption, "ours is ahead", "2 of 4", "0.05", "in 0", "ours_too")
    assert "| d 5 % | .600 | the near one | .400 | +20.0 ± 14.1 | 2 of 2 | .295 |" in table
    assert "| d 10 % | .500 | the near one | .650 | -15.0 ± 7.1 | 0 of 2 | .205 |" in table
    assert lead_text(RUNS, "gone") == ""


def test_a_sure_lead_has_a_star() -> None:
    text = lead_text(seeds("a", [0.5, 0.6, 0.72, 0.8]) + seeds("b", [0.4, 0.5, 0.6, 0.7]), "a")
    assert "| d 5 % | .655 | b | .550 | +10.5* ± 1.0 | 4 of 4 | < .001 |" in text
    assert has_line(text, "2 of 2", "in 2")
