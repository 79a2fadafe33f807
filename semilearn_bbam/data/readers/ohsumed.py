"""`dataset: ohsumed`: medical abstracts in their original tree, with 23 disease categories as labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from semilearn_bbam.data.dataset import DataError, Part, Problem, Source, data_folder, multi_hot, register_source
from semilearn_bbam.data.readers.parts import choose_parts
from semilearn_bbam.data.releases import cure

TREE = "ohsumed-first-20000-docs"
LABEL_NAMES = (
    "C01 Bacterial Infections and Mycoses",
    "C02 Virus Diseases",
    "C03 Parasitic Diseases",
    "C04 Neoplasms",
    "C05 Musculoskeletal Diseases",
    "C06 Digestive System Diseases",
    "C07 Stomatognathic Diseases",
    "C08 Respiratory Tract Diseases",
    "C09 Otorhinolaryngologic Diseases",
    "C10 Nervous System Diseases",
    "C11 Eye Diseases",
    "C12 Urologic and Male Genital Diseases",
    "C13 Female Genital Diseases and Pregnancy Complications",
    "C14 Cardiovascular Diseases",
    "C15 Hemic and Lymphatic Diseases",
    "C16 Neonatal Diseases and Abnormalities",
    "C17 Skin and Connective Tissue Diseases",
    "C18 Nutritional and Metabolic Diseases",
    "C19 Endocrine Diseases",
    "C20 Immunologic Diseases",
    "C21 Disorders of Environmental Origin",
    "C22 Animal Diseases",
    "C23 Pathological Conditions, Signs and Symptoms",
)
CODES = tuple(name[:3] for name in LABEL_NAMES)


@register_source("ohsumed", "text")
def load_ohsumed(args: argparse.Namespace) -> Source:
    """Read `<data_dir>/{training,test}/C01..C23/<document id>`; `data_dir` may also be the folder above.

    An item is title and abstract as one line of text; a document that is in several folders has several labels
    (6,286 and 7,643 documents). Rows are in the order of the document ids. DataError if the tree is missing or a
    folder of it is.
    """
    choose_parts(args, "ohsumed", ("training", "test"))
    root = find_tree(data_folder(args))
    return Source.of("ohsumed", "text", read_part(root, "training"), read_part(root, "test"), LABEL_NAMES)


def find_tree(data_dir: Path) -> Path:
    """The folder that holds training/ and test/, `data_dir` or the archive's top folder in it."""
    for root in (data_dir, data_dir / TREE):
        if (root / "training").is_dir() and (root / "test").is_dir():
            return root
    advice = cure("ohsumed", [data_dir], "set data_dir to it")
    raise DataError(f"no Ohsumed tree training/C01..C23 and test/C01..C23 in {data_dir} or {data_dir / TREE}; {advice}")


def read_part(root: Path, part: str) -> Part:
    """The documents of "training" or "test" with targets [N,23], in the order of their ids."""
    labels_of: dict[str, list[int]] = {}
    texts: dict[str, str] = {}
    problems = []
    for k, code in enumerate(CODES):
        folder = root / part / code
        if not folder.is_dir():
            raise DataError(f"the Ohsumed folder {folder} is missing; extract the whole archive again")
        for path in folder.iterdir():
            if path.name.startswith("."):  # a hidden file, not a document
                continue
            try:
                # A document that has several labels is read once.
                if path.name not in texts:
                    texts[path.name] = " ".join(path.read_text(encoding="latin-1").split())
            except OSError as error:
                problems.append(Problem(part, f"{code}/{path.name}", "row", error.strerror or type(error).__name__))
            else:
                labels_of.setdefault(path.name, []).append(k)
    ids = sorted(labels_of)
    targets = multi_hot([labels_of[document] for document in ids], len(CODES))
    return Part([texts[document] for document in ids], targets, ids, problems)
