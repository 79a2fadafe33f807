"""What each dataset is released as: its archives with size and SHA-256 where known, and how many items it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from semilearn_bbam.data.archives import Archive


@dataclass(frozen=True)
class Release:
    """A dataset as its authors ship it; `counts` are training items, test items and labels as the reader loads them.

    `instructions` say in one paragraph which files are needed, where they come from and under which terms.
    """

    counts: tuple[int, int, int]
    instructions: str
    archives: tuple[Archive, ...] = ()


VOC_URL = "http://host.robots.ox.ac.uk/pascal/VOC"
COCO_URL = "http://images.cocodataset.org"
AWA_URL = "https://cvml.ista.ac.at/AwA2/AwA2-data.zip"
VOC_TERMS = f"Terms: {VOC_URL}/voc2012/index.html#rights; the images are Flickr's."
COCO_TERMS = "Its annotations are under CC BY 4.0, its images under the terms of Flickr (https://cocodataset.org)."
OHSUMED_URL = "http://disi.unitn.it/moschitti/corpora/ohsumed-first-20000-docs.tar.gz"


def _coco(year: int, counts: tuple[int, int, int], sizes: tuple[int, ...], digests: tuple[str, ...]) -> Release:
    paths = (f"annotations/annotations_trainval{year}.zip", f"zips/train{year}.zip", f"zips/val{year}.zip")
    extracted = (f"annotations/instances_train{year}.json", f"train{year}", f"val{year}")
    roots = ("", f"coco{year}/", "coco/")
    archives = tuple(
        Archive(
            path.split("/")[1],
            shows,
            f"{COCO_URL}/{path}",
            size,
            digest,
            elsewhere=tuple(f"{root}{parent}{shows}" for root in roots for parent in ("", "images/")),
        )
        for path, shows, size, digest in zip(paths, extracted, sizes, digests, strict=True)
    )
    instructions = (
        f"COCO {year}: put {archives[0].name}, {archives[1].name} and {archives[2].name} (20 GB), or the extracted "
        f"folders annotations, {extracted[1]} and {extracted[2]} there. {COCO_TERMS}"
    )
    return Release(counts, instructions, archives)


def _voc(year: int, file: str, shows: str, size: int, digest: str) -> Archive:
    """The reader also takes VOCdevkit itself or VOC<year> for the data folder."""
    inside = f"ImageSets/Main/{shows}"
    return Archive(
        file,
        f"VOCdevkit/VOC{year}/{inside}",
        f"{VOC_URL}/voc{year}/{file}",
        size,
        digest,
        elsewhere=(f"VOC{year}/{inside}", inside),
    )


RELEASES = {
    "voc2012": Release(
        (5717, 5823, 20),
        "PASCAL VOC 2012: put VOCtrainval_11-May-2012.tar (2.0 GB) or the extracted VOCdevkit/VOC2012 there. "
        + VOC_TERMS,
        (
            _voc(
                2012,
                "VOCtrainval_11-May-2012.tar",
                "cat_val.txt",
                1999639040,
                "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            ),
        ),
    ),
    "voc2007": Release(
        (5011, 4952, 20),
        "PASCAL VOC 2007: put VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar (0.9 GB) or the extracted "
        "VOCdevkit/VOC2007 there. " + VOC_TERMS,
        (
            _voc(
                2007,
                "VOCtrainval_06-Nov-2007.tar",
                "cat_trainval.txt",
                460032000,
                "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            ),
            _voc(
                2007,
                "VOCtest_06-Nov-2007.tar",
                "cat_test.txt",
                451020800,
                "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            ),
        ),
    ),
    "coco2014": _coco(
        2014,
        (82081, 40137, 80),
        (252872794, 13510573713, 6645013297),
        (
            "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
            "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
            "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
        ),
    ),
    "coco2017": _coco(
        2017,
        (117266, 4952, 80),
        (252907541, 19336861798, 815585330),
        (
            "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
            "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        ),
    ),
    "awa2": Release(
        (30337, 6985, 85),
        f"Animals with Attributes 2: put AwA2-data.zip (13 GB, {AWA_URL}) or the extracted Animals_with_Attributes2 "
        "there. The licences of its images are in its folder licenses (Xian et al., TPAMI 2018).",
        (
            Archive(
                "AwA2-data.zip",
                "Animals_with_Attributes2/JPEGImages",
                AWA_URL,
                elsewhere=("JPEGImages",),
            ),
        ),
    ),
    "ohsumed": Release(
        (6286, 7643, 23),
        f"Ohsumed, first 20,000 documents: put ohsumed-first-20000-docs.tar.gz ({OHSUMED_URL}) or the extracted "
        "folder there.",
        (
            Archive(
                "ohsumed-first-20000-docs.tar.gz",
                "ohsumed-first-20000-docs/test/C23",
                OHSUMED_URL,
                others=("ohsumed-first-20000-docs.tar.xz",),
                elsewhere=("test/C23",),
            ),
        ),
    ),
    "aapd": Release(
        (53840, 1000, 54),
        "AAPD: put the files text_train, label_train, text_val, label_val, text_test and label_test of the original "
        "release, or train.json, val.json and test.json with objects {text, label}, there. Its authors (Yang et al., "
        "COLING 2018) link it from https://github.com/lancopku/SGM; no licence is stated.",
    ),
    "corel5k": Release(
        (4500, 499, 374),
        "Corel5K: put the folders train_jpeg and test_jpeg, or corel5k_jpeg.tar with them, and the files "
        "training_label, test_label and words there (Duygulu et al., ECCV 2002; no address of the images is known). "
        "Some copies have 500 test images instead of 499.",
        (Archive("corel5k_jpeg.tar", "train_jpeg"),),
    ),
}


def cure(name: str, folders: Iterable[Path], otherwise: str) -> str:
    """What a reader of dataset `name` advises where something is missing: to extract an archive in `folders`."""
    for folder in folders:
        for archive in RELEASES[name].archives:
            path = archive.find(folder)
            if path and not archive.is_extracted(folder):
                return f"run semilearn-bbam prepare {name} to extract {path.name}"
    return otherwise
