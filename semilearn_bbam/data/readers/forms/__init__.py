"""Forms other than a table in which people have labelled images; each is read into `Entries`, one file per form."""

from __future__ import annotations

from pathlib import Path

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.forms.coco_json import COCO
from semilearn_bbam.data.readers.forms.folders import FOLDERS
from semilearn_bbam.data.readers.forms.form import Form
from semilearn_bbam.data.readers.forms.image_folder import IMAGE_FOLDER
from semilearn_bbam.data.readers.forms.voc_xml import VOC
from semilearn_bbam.data.readers.forms.yolo import YOLO

FORMS: tuple[Form, ...] = (IMAGE_FOLDER, COCO, VOC, YOLO)  # each by its own files; FOLDERS is what is left


def find_form(path: Path) -> Form | None:
    """The form that a file or a folder is of, None for a table or a list. DataError for a folder of several forms."""
    forms = [form for form in FORMS if form.matches(path)]
    if len(forms) > 1:
        names = " and ".join(form.name for form in forms)
        raise DataError(f"{path} can be read as {names}; set manifest to the file or the folder of one of them")
    return forms[0] if forms else FOLDERS if FOLDERS.matches(path) else None


__all__ = ["FOLDERS", "FORMS", "Form", "find_form"]
