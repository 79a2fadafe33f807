"""Forms other than a table in which people have labelled images; each is read into `Entries`, one file per form."""

from __future__ import annotations

from pathlib import Path

from semilearn_bbam.data.readers.forms.coco_json import COCO
from semilearn_bbam.data.readers.forms.folders import FOLDERS
from semilearn_bbam.data.readers.forms.form import Form
from semilearn_bbam.data.readers.forms.voc_xml import VOC

FORMS: tuple[Form, ...] = (COCO, VOC, FOLDERS)


def find_form(path: Path) -> Form | None:
    """The first form that a file or a folder is of, None for a table or a list."""
    return next((form for form in FORMS if form.matches(path)), None)


__all__ = ["FORMS", "Form", "find_form"]
