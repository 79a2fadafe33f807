"""Whether one method is ahead of the best other one, by paired tests over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from semilearn_bbam.report.columns import HEADLINE, Place, contenders, heading, metric_of, place_words
from semilearn_bbam.report.render import short, to_rows
from semilearn_bbam.report.tables import SIGNIFICANT, Metric, Run, paired_p_value, validation_note, value_of


@dataclass(frozen=True)
class Lead:
    """A method against the best other one in a column: pairs of values (method, other) on the same seeds."""

    other: str
    pairs: tuple[tuple[float, float], ...]

    @property
    def differences(self) -> list[float]:
        return [own - other for own, other in self.pairs]

    @property
    def p_value(self) -> float | None:
        """Of a two-sided paired t-test; None for one seed."""
        own, other = zip(*self.pairs, strict=True)
        return paired_p_value(own, other) if len(own) > 1 else None

    @property
    def significant(self) -> bool:
        """Whether the method is ahead, and that by more than chance."""
        return statistics.mean(self.differences) > 0 and self.p_value is not None and self.p_value < SIGNIFICANT


def leads(
    results: Sequence[Run], flagship: str, metric: Metric, protocol: str, left_out: Collection[str] = ()
) -> dict[Place, Lead]:
    """The flagship against the best other method, by dataset and label ratio.

    The best other is the one that the flagship is least ahead of, by the mean difference on the seeds that the two
    share, so that methods with fewer seeds are compared on the same splits. Methods to which hidden labels were given
    away and those `left_out` are no others. A place without another method that shares a seed is left out.
    """
    values: dict[Place, dict[str, dict[int, float]]] = {}
    for run in contenders(results, left_out):
        column = values.setdefault((run["grid_dataset"], run["grid_ratio"]), {})
        column.setdefault(run["method"], {})[run["seed"]] = value_of(run, metric, protocol)
    sign = 1 if metric.more_is_better else -1
    found = {}
    for place, column in sorted(values.items()):
        own = column.pop(flagship, {})
        rivals = [Lead(method, tuple((own[seed], other[seed]) for seed in sorted(own.keys() & other.keys())))
                  for method, other in column.items()]  # fmt: skip
        rivals = [rival for rival in rivals if rival.pairs]
        if rivals:
            found[place] = min(rivals, key=lambda rival: sign * statistics.mean(rival.differences))
    return found


def lead_text(
    results: Sequence[Run],
    flagship: str,
    family: Collection[str] = (),
    ceilings: Collection[str] = (),
    names: Mapping[str, str] | None = None,
) -> str:
    """Markdown: in each column the best method that is neither the flagship, nor of its family, nor a ceiling.

    Empty where no column has the flagship and another method.
    """
    names = names or {}
    left_out = {*family, *ceilings} - {flagship}
    found = {(title, protocol): leads(results, flagship, metric_of(title), protocol, left_out)
             for title, protocol in HEADLINE}  # fmt: skip
    all_leads = [lead for places in found.values() for lead in places.values()]
    if not all_leads:
        return ""
    name = names.get(flagship, flagship)
    ahead = sum(statistics.mean(lead.differences) > 0 for lead in all_leads)
    skipped = f" Not counted as others: {', '.join(names.get(m, m) for m in family)}." if family else ""
    caption = (
        f"{name} is ahead of the best other method in {ahead} of {len(all_leads)} columns, with p < {SIGNIFICANT} in "
        f"{sum(lead.significant for lead in all_leads)}. The best other method of a column is the one that {name} is "
        "least ahead of in the mean, of all that were given no hidden label. Difference in points (hundredths), mean "
        "and standard deviation over the seeds that both have; on how many of them it is positive; p of a two-sided "
        f"paired t-test over them; * where it is ahead with p < {SIGNIFICANT}.{skipped} {validation_note(results)}"
    )
    tables = []
    for metric_protocol, places in found.items():
        lines = [[heading(*metric_protocol), name, "best other", "", "difference", "ahead", "p"]]
        for place, lead in places.items():
            lines.append([place_words(place), *_cells(lead, names)])
        tables.append(to_rows(lines))
    return "\n\n".join([caption.strip(), *tables]) + "\n"


def _cells(lead: Lead, names: Mapping[str, str]) -> list[str]:
    own, other = (statistics.mean(values) for values in zip(*lead.pairs, strict=True))
    points = [100 * difference for difference in lead.differences]
    spread = f" ± {statistics.stdev(points):.1f}" if len(points) > 1 else ""
    wins = f"{sum(point > 0 for point in points)} of {len(points)}"
    p_value = "-" if lead.p_value is None else "< .001" if lead.p_value < 0.001 else short(lead.p_value)
    star = "*" if lead.significant else ""
    difference = f"{statistics.mean(points):+.1f}{star}{spread}"
    return [short(own), names.get(lead.other, lead.other), short(other), difference, wins, p_value]
