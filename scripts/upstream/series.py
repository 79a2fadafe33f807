"""The two patch series for USB: how they are kept here, written as patches, and taken back from a branch.

A commit of a series is a folder `<series>/<number>_<name>/` with `message.txt`; `edits.patch`, the changes of USB's
files; and `files/`, the new files. New files that this package's sources can serve are generated (`sources.py`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from upstream.sources import generated

HERE = Path(__file__).parent
BASE = "1ef4cbebcc0b368158315aeb425053858cf6c845"  # USB's main of 2025-09-24
SERIES = ("multilabel", "bbam")  # the second is on top of the first
LIMIT = 300  # seconds for a command of git
# The author where git has no name configured, so that patches can still be made and looked at.
ANONYMOUS = {"NAME": "semilearn-bbam", "EMAIL": "semilearn-bbam@localhost"}


class SeriesError(Exception):
    """A checkout of USB that cannot be used, or a patch that does not apply."""


@dataclass(frozen=True)
class Commit:
    """One commit of a series, in its folder."""

    folder: Path

    @property
    def message(self) -> str:
        return (self.folder / "message.txt").read_text(encoding="utf-8")

    @property
    def edits(self) -> Path:
        """The patch of USB's own files; need not exist."""
        return self.folder / "edits.patch"

    def files(self) -> Mapping[str, str]:
        """Path -> text of each new file, kept ones and generated ones."""
        root = self.folder / "files"
        kept = {
            path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
        made = generated(f"{self.folder.parent.name}/{self.folder.name}")
        if both := kept.keys() & made.keys():
            raise SeriesError(f"{self.folder}: {', '.join(sorted(both))}: kept and generated; remove it from files/")
        return {**kept, **made}


def commits(series: str) -> list[Commit]:
    """The commits of a series, in their order."""
    return [Commit(path.parent) for path in sorted((HERE / series).glob("*/message.txt"))]


def git(folder: Path, *words: str | Path) -> str:
    """The output of git in a folder; SeriesError with its message where it fails."""
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, timeout=LIMIT, env=identity(folder)
    )
    if done.returncode:
        raise SeriesError(f"git {words[0]} in {folder}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def identity(folder: Path) -> dict[str, str]:
    """The environment of git, with a name where none is configured."""
    environment = dict(os.environ)
    done = subprocess.run(["git", "config", "user.email"], cwd=folder, capture_output=True, timeout=LIMIT)
    if done.returncode:
        for role in ("AUTHOR", "COMMITTER"):
            for key, value in ANONYMOUS.items():
                environment.setdefault(f"GIT_{role}_{key}", value)
    return environment


def clone(usb: Path, target: Path) -> Path:
    """A clone of the checkout with USB's main at `BASE`, into a folder that is emptied first."""
    if not (usb / "semilearn" / "core" / "algorithmbase.py").is_file():
        raise SeriesError(f"{usb}: no checkout of USB (microsoft/Semi-supervised-learning); give its folder")
    try:
        git(usb, "cat-file", "-e", f"{BASE}^{{commit}}")
    except SeriesError:
        raise SeriesError(f"{usb}: has no commit {BASE[:7]}; fetch USB's main, all of its history") from None
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    git(target.parent, "clone", "--quiet", "--no-checkout", usb.resolve(), target.resolve())
    git(target, "checkout", "--quiet", "-B", "main", BASE)
    return target


def write_series(usb: Path, out: Path, work: Path) -> dict[str, list[Path]]:
    """Make both branches in a clone `work`, and write them as `<out>/<series>/*.patch`; returns the patches."""
    clone(usb, work)
    patches, below = {}, "main"
    for series in SERIES:
        git(work, "checkout", "--quiet", "-b", series, below)
        for commit in commits(series):
            add_commit(work, commit)
        folder = out.resolve() / series
        shutil.rmtree(folder, ignore_errors=True)
        git(work, "format-patch", "--quiet", "-o", folder, below)
        patches[series], below = sorted(folder.glob("*.patch")), series
    return patches


def add_commit(work: Path, commit: Commit) -> None:
    """Commit the edits and files of one commit."""
    if commit.edits.exists():
        git(work, "apply", "--index", commit.edits.resolve())
    for name, text in commit.files().items():
        path = work / name
        if path.exists():
            raise SeriesError(f"{name}: USB has it already; change it in {commit.edits.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        git(work, "add", name)
    git(work, "commit", "--quiet", "-m", commit.message)


def take_back(work: Path, series: str, since: str, branch: str) -> list[Path]:
    """Write the commits `since..branch` of a clone into the folders of a series, after changes there.

    Generated files are left out: they change with this package's sources, and a difference is a SeriesError.
    """
    hashes = git(work, "rev-list", "--reverse", "--no-merges", f"{since}..{branch}").split()
    names = [
        f"{number}_{slug(git(work, 'log', '-1', '--format=%s', commit))}" for number, commit in enumerate(hashes, 1)
    ]
    for old in (HERE / series).glob("*_*"):
        shutil.rmtree(old)
    return [take_commit(work, commit, HERE / series / name) for commit, name in zip(hashes, names, strict=True)]


def take_commit(work: Path, commit: str, folder: Path) -> Path:
    """Write one commit of a clone into a new folder, and return that."""
    folder.mkdir(parents=True)
    (folder / "message.txt").write_text(git(work, "log", "-1", "--format=%B", commit).strip() + "\n", encoding="utf-8")
    made = generated(f"{folder.parent.name}/{folder.name}")
    edited = []
    for status, name in changes(work, commit):
        if status == "M":
            edited.append(name)
        elif status != "A":
            raise SeriesError(f"{name}: a series adds and edits files, and this commit has '{status}'")
        elif name not in made:
            path = folder / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(git(work, "show", f"{commit}:{name}"), encoding="utf-8")
        elif git(work, "show", f"{commit}:{name}") != made[name]:
            raise SeriesError(f"{name}: is generated from this package and was changed by hand; change sources.py")
    if edited:
        # By git itself: some of USB's files have carriage returns.
        git(work, "diff", "--full-index", f"--output={folder / 'edits.patch'}", f"{commit}^", commit, "--", *edited)
    return folder


def changes(work: Path, commit: str) -> Iterator[tuple[str, str]]:
    """Status (A, M, ...) and path of each file that a commit changes."""
    for line in git(work, "show", "--format=", "--name-status", "--no-renames", commit).splitlines():
        status, _, name = line.partition("\t")
        yield status, name


def slug(subject: str) -> str:
    """The first words of a subject as a name of a folder."""
    return "_".join("".join(c if c.isalnum() else " " for c in subject.lower()).split()[:4])
