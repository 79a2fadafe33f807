"""A page's data as HTML, by a template that escapes every name and text."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from semilearn_bbam.report.page.model import PageData
from semilearn_bbam.report.page.views import (
    NOT_KNOWN,
    compared_labels,
    metric_groups,
    number,
    setting_rows,
    version_rows,
)

FOLDER = Path(__file__).parent
LONGEST_NAME = 160  # characters of a name
FILTERED = 30  # labels from which on a table has a filter
# Line ends and tabs are white space; other control characters HTML does not allow.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render(page: PageData) -> str:
    """The HTML of a page, one file that loads nothing from elsewhere.

    Args:
        page: its data. Names and texts may be anything; SVGs and pictures come from this program.

    Returns:
        The document; its policy forbids every request and every script but the one in it.
    """
    script = _file("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    runs = page.runs
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            runs=runs,
            title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
            groups=metric_groups(runs),
            compared=compared_labels(runs) if len(runs) > 1 else [],
            settings=setting_rows(runs),
            versions=version_rows(runs),
            filtered=FILTERED,
            style=_file("style.css"),
            script=script,
            script_hash=f"sha256-{digest}",
        )
    )
    return html


@cache
def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable,
    )
    environment.globals["value_of"] = lambda facts, term: dict(facts).get(term, NOT_KNOWN)
    environment.filters |= {"number": number, "short": short}
    return environment


def printable(value: object) -> object:
    """A text without characters that HTML does not allow, each of which becomes U+FFFD; other values as they are.

    Args:
        value: what a template prints.

    Returns:
        The value.

    Example:
        >>> printable("a\\x00b")
        'a�b'
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value


def short(text: str, longest: int = LONGEST_NAME) -> str:
    """A text cut to so many characters, with an ellipsis where something is left out.

    Args:
        text: the text.
        longest: characters that it may have.

    Returns:
        The text or its beginning.

    Example:
        >>> short("a long name", 6)
        'a lon…'
    """
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"
