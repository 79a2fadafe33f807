"""Make a released dataset ready: extract what is there, check and count everything, remember the result."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from semilearn_bbam.commands import ANYWHERE
from semilearn_bbam.data import KIND_OF, Source, load_source
from semilearn_bbam.data.archives import Archive
from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.releases import RELEASES, Release
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.signals import interruptible

OPTIONS = ANYWHERE
INTERRUPTED = "interrupted; run it again to go on"
NETS = {"image": "resnet50", "text": "bert_base_uncased"}  # asked for with all settings, but not built here
# Options that choose how much of a release is read.
CHOICES = ("train_part", "test_part", "awa_split", "empty_labels", "min_positives")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The release and its folder."""
    parser.add_argument("name", metavar="NAME", choices=sorted(RELEASES), help=", ".join(sorted(RELEASES)))
    parser.add_argument("--dataset", metavar="NAME", choices=sorted(RELEASES), help="another year of the same release")
    parser.add_argument("--data_dir", required=True, help="folder with the archives or the extracted data")
    parser.add_argument("--download", action="store_true", help="fetch missing archives of known size and SHA-256")


def run(chosen: argparse.Namespace, options: Sequence[str]) -> int:
    """0 if the data are ready; UserError with a sentence and instructions if they are not."""
    import semilearn_bbam.run  # noqa: F401  takes seconds, in which an exception could be swallowed

    name, data_dir = chosen.dataset or chosen.name, Path(os.path.expanduser(chosen.data_dir))
    try:
        with interruptible():
            print(prepare(name, data_dir, options, download=chosen.download))
    except (UserError, OSError) as error:
        raise UserError("\n".join([f"{name}: {error}", *what_to_do(name, data_dir)])) from error
    return 0


def prepare(name: str, data_dir: Path, options: Sequence[str] = (), *, download: bool = False) -> str:
    """Extract the archives of a release that are not extracted yet, read the whole data set, and say what is in it.

    Reading verifies every image and parses every annotation, and both are remembered in the cache folder, so that
    training starts at once; a second call does only what has changed. UserError where something is missing.
    """
    release = RELEASES[name]
    if not os.path.isdir(data_dir):
        raise DataError(f"the folder {data_dir} does not exist; create it and put the data there")
    own = ["--algorithm", "supervised_bce", "--net", NETS[KIND_OF[name]], "--label_ratio", "0.1"]
    own += ["--dataset", name, "--data_dir", str(data_dir)]
    from semilearn_bbam.run import read_settings

    settings, usual = read_settings([*own, *options]), read_settings(own)
    as_usual = all(getattr(settings, key) == getattr(usual, key) for key in CHOICES)
    lines = [line for archive in release.archives for line in _unpack(archive, data_dir, download)]
    source = load_source(settings)
    return "\n".join([*lines, *source.notes, summary(source, release, as_usual=as_usual)])


def what_to_do(name: str, data_dir: Path) -> list[str]:
    """What is missing, where it comes from and the command to run then, a line each; none if all archives are there."""
    release = RELEASES[name]
    missing = [a for a in release.archives if not (a.is_extracted(data_dir) or a.find(data_dir))]
    if release.archives and not missing:
        return []
    lines = [release.instructions]
    for archive in missing:
        size = f" ({archive.size:,} bytes)" if archive.size else ""
        begun = (
            f"; {archive.part(data_dir).name} goes on with --download" if os.path.exists(archive.part(data_dir)) else ""
        )
        lines.append(f"missing: {data_dir / archive.name}{size}{f' from {archive.url}' if archive.url else ''}{begun}")
    command = ["semilearn-bbam", "prepare", name, "--data_dir", str(data_dir)]
    fetched = any(archive.sha256 for archive in missing)
    return [*lines, f"then run: {shlex.join(command)}{' (--download fetches what is missing)' if fetched else ''}"]


def _unpack(archive: Archive, data_dir: Path, download: bool) -> list[str]:
    """Extract one archive if that is still to be done; what was done, a sentence each."""
    if archive.is_extracted(data_dir):
        return []
    lines = []
    path = archive.find(data_dir)
    if path is None and download:
        path = archive.download(data_dir)
        lines.append(f"fetched {path}")
    if path is None and os.path.exists(archive.staging_folder(data_dir)):
        raise DataError(
            f"the extraction of {archive.name} was interrupted and it is gone from {data_dir}; put it back, or delete "
            f"{archive.staging_folder(data_dir)} if you extracted it by hand"
        )
    if path is None:
        return lines  # the reader knows other places, and says what is missing
    archive.verify(path)
    archive.extract(path, data_dir)
    known = archive.sha256 and path.name == archive.name
    checked = "size and SHA-256 are those of the release" if known else "its SHA-256 is not known"
    return [*lines, f"extracted {path} ({checked})"]


def summary(source: Source, release: Release, *, as_usual: bool) -> str:
    """Counts of the data set and whether they are the release's; with other CHOICES than usual they need not be."""
    found = (len(source.targets), len(source.test_targets), len(source.label_names))
    cardinality = ", ".join(f"{targets.sum(1).mean():.3f}" for targets in (source.targets, source.test_targets))
    text = (
        f"{source.name}: {found[0]:,} training and {found[1]:,} test items, {found[2]} labels, "
        f"{cardinality} labels per item"
    )
    if found == release.counts:
        return f"{text}; as released"
    if not as_usual:
        return text
    expected = "{:,} training and {:,} test items, {} labels".format(*release.counts)
    return f"{text}\nWARNING: the release has {expected}; is something missing?"
