"""`dataset: ohsumed`: medical abstracts in their original tree, with 23 disease categories as labels."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.source import DataError, Source, compute_fingerprint, register_source

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


@register_source("ohsumed")
def load_ohsumed(args: argparse.Namespace) -> Source:
    """Read `<data_dir>/{training,test}/C01..C23/<document id>`; `data_dir` may also be the folder above.

    An item is title and abstract as one line of text; a document that lies in several folders has several
    labels. Rows are in the order of the document ids. DataError if the tree is missing or a folder of it is.
    """
    root = find_tree(Path(args.data_dir).expanduser())
    train_ids, train, targets = read_part(root / "training")
    test_ids, test, test_targets = read_part(root / "test")
    mark = compute_fingerprint(train_ids, train, targets, test_ids, test, test_targets, LABEL_NAMES)
    return Source("ohsumed", "text", train, targets, test, test_targets, LABEL_NAMES, mark)


def find_tree(data_dir: Path) -> Path:
    """The folder that holds training/ and test/, `data_dir` or the archive's own folder in it."""
    for root in (data_dir, data_dir / TREE):
        if (root / "training").is_dir() and (root / "test").is_dir():
            return root
    archives = sorted(data_dir.glob("*ohsumed*.t*")) if data_dir.is_dir() else []
    cure = f"extract it first: tar -xf {archives[0]} -C {data_dir}" if archives else "set data_dir to it"
    raise DataError(f"no Ohsumed tree training/C01..C23 and test/C01..C23 in {data_dir} or {data_dir / TREE}; {cure}")


def read_part(folder: Path) -> tuple[list[str], list[str], NDArray[np.float32]]:
    """Document ids, texts and targets [N,23] of one part, in the order of the ids."""
    labels_of: dict[str, list[int]] = {}
    texts: dict[str, str] = {}
    for k, code in enumerate(CODES):
        if not (folder / code).is_dir():
            raise DataError(f"the Ohsumed folder {folder / code} is missing; extract the whole archive again")
        for path in (folder / code).iterdir():
            if path.name.startswith("."):  # a file manager's leavings, not a document
                continue
            labels_of.setdefault(path.name, []).append(k)
            if path.name not in texts:
                texts[path.name] = " ".join(path.read_text(encoding="latin-1").split())
    ids = sorted(labels_of)
    targets = np.zeros((len(ids), len(CODES)), dtype=np.float32)
    for row, document in enumerate(ids):
        targets[row, labels_of[document]] = 1.0
    return ids, [texts[document] for document in ids], targets
