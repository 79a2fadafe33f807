#!/usr/bin/env python
"""Write what tests last printed into docs/reliability.md: python scripts/reliability.py build/tests.xml."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
ROW = re.compile(r"^(\| [^|]+ \| (`tests/[^|]+) \|)[^|]*\|$", re.MULTILINE)


def read_cases(report: str | Path) -> list[ElementTree.Element]:
    """The test cases of a JUnit report."""
    return list(ElementTree.parse(report).getroot().iter("testcase"))


def printed(node: str, cases: list[ElementTree.Element]) -> str:
    """What the tests of a file, or one test with all its cases, came to, and the properties that they record."""
    file, _, name = node.partition("::")
    module = file.removesuffix(".py").replace("/", ".")
    selected = [
        case
        for case in cases
        if case.get("classname") == module and (not name or str(case.get("name")).partition("[")[0] == name)
    ]
    bad = sum(case.find("failure") is not None or case.find("error") is not None for case in selected)
    skipped = sum(case.find("skipped") is not None for case in selected)
    counts = [f"{len(selected) - bad - skipped} passed"]
    counts += [f"{number} {word}" for number, word in ((bad, "FAILED"), (skipped, "skipped")) if number]
    counts += [f"{item.get('value')} {item.get('name')}" for case in selected for item in case.iter("property")]
    return ", ".join(counts) if selected else "not run"


def main(argv: list[str] | None = None) -> int:
    """Renew the last column of the page; 1 where a test of it failed or did not run, 2 without a report."""
    parser = argparse.ArgumentParser(prog="reliability.py", description=__doc__)
    parser.add_argument("report", help="JUnit report of pytest, --junitxml")
    report = parser.parse_args(argv).report
    try:
        cases = read_cases(report)
    except (OSError, ElementTree.ParseError) as error:
        print(f"reliability.py: '{report}' is no report of pytest ({error}); run make test-all", file=sys.stderr)
        return 2
    outcomes = []

    def renewed(row: re.Match[str]) -> str:
        outcomes.append("; ".join(printed(node.strip("` "), cases) for node in row[2].split(", ")))
        return f"{row[1]} {outcomes[-1]} |"

    PAGE.write_text(ROW.sub(renewed, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return int(any("FAILED" in outcome or "not run" in outcome for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
