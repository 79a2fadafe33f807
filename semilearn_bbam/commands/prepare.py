"""Make a released dataset ready: extract its archives, check and count everything, and cache the result."""

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
INTERRUPTED = "interrupted; run it again to continue"
NETS = {"image": "resnet50", "text": "bert_base_uncased"}  # required by the settings, but not built here
# Options that select a part of a release.
CHOICES = ("train_part", "test_part", "awa_split", "empty_labels", "min_positives")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The release and its folder."""
    parser.add_argument("name", metavar="NAME", choices=sorted(RELEASES), help=", ".join(sorted(RELEASES)))
    parser.add_argument("--dataset", metavar="NAME", choices=sorted(RELEASES), help="another year of the same release")
    parser.add_argument("--data_dir", required=True, help="folder with the archives or the extracted data")
    parser.add_argument("--download", action="store_true", help="fetch missing archives of known size and SHA-256")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """0 if the data are ready; UserError with instructions if they are not."""
    import semilearn_bbam.run  # noqa: F401  takes seconds, in which an exception could be swallowed

    name, data_dir = args.dataset or args.name, Path(os.path.expanduser(args.data_dir))
    try:
        with interruptible():
            print(prepare(name, data_dir, options, download=args.download))
    except (UserError, OSError) as error:
        raise UserError("\n".join([f"{name}: {error}", *what_to_do(name, data_dir)])) from error
    return 0


def prepare(name: str, data_dir: Path, options: Sequence[str] = (), *, download: bool = False) -> str:
    """Extract the archives of a release that are not extracted yet, read the whole dataset, and describe it.

    Reading verifies every image and parses every annotation; both are stored in the cache folder, so that training
    starts at once and a second call reads only what has changed. UserError if something is missing.
    """
    release = RELEASES[name]
    if not os.path.isdir(data_dir):
        raise DataError(f"the folder {data_dir} does not exist; create it and put the data there")
    argv = ["--algorithm", "supervised_bce", "--net", NETS[KIND_OF[name]], "--label_ratio", "0.1"]
    argv += ["--dataset", name, "--data_dir", str(data_dir)]
    from semilearn_bbam.run import read_settings

    settings, default_settings = read_settings([*argv, *options]), read_settings(argv)
    is_default = all(getattr(settings, key) == getattr(default_settings, key) for key in CHOICES)
    lines = [line for archive in release.archives for line in _unpack(archive, data_dir, download)]
    source = load_source(settings)
    return "\n".join([*lines, *source.notes, summary(source, release, as_default=is_default)])


def what_to_do(name: str, data_dir: Path) -> list[str]:
    """Missing archives, their source and the command to run then, a line each; none if no archive is missing."""
    release = RELEASES[name]
    missing = [a for a in release.archives if not (a.is_extracted(data_dir) or a.find(data_dir))]
    if release.archives and not missing:
        return []
    lines = [release.instructions]
    for archive in missing:
        size = f" ({archive.size:,} bytes)" if archive.size else ""
        partial = (
            f"; {archive.part(data_dir).name} goes on with --download" if os.path.exists(archive.part(data_dir)) else ""
        )
        lines.append(
            f"missing: {data_dir / archive.name}{size}{f' from {archive.url}' if archive.url else ''}{partial}"
        )
    command = ["semilearn-bbam", "prepare", name, "--data_dir", str(data_dir)]
    fetched = any(archive.sha256 for archive in missing)
    return [*lines, f"then run: {shlex.join(command)}{' (--download fetches what is missing)' if fetched else ''}"]


def _unpack(archive: Archive, data_dir: Path, download: bool) -> list[str]:
    """Extract one archive unless it is extracted; returns a line about each step."""
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
        return lines  # the reader looks in other places, and reports what is missing
    archive.verify(path)
    archive.extract(path, data_dir)
    has_digest = archive.sha256 and path.name == archive.name
    checked = "size and SHA-256 are those of the release" if has_digest else "its SHA-256 is not known"
    return [*lines, f"extracted {path} ({checked})"]


def summary(source: Source, release: Release, *, as_default: bool) -> str:
    """Counts of the dataset, compared with the release's unless CHOICES are not at their defaults."""
    counts = (len(source.targets), len(source.test_targets), len(source.label_names))
    cardinality = ", ".join(f"{targets.sum(1).mean():.3f}" for targets in (source.targets, source.test_targets))
    text = (
        f"{source.name}: {counts[0]:,} training and {counts[1]:,} test items, {counts[2]} labels, "
        f"{cardinality} labels per item"
    )
    if counts == release.counts:
        return f"{text}; as released"
    if not as_default:
        return text
    expected = "{:,} training and {:,} test items, {} labels".format(*release.counts)
    return f"{text}\nWARNING: the release has {expected}; is something missing?"
