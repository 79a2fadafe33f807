"""Archives of released data: checked by size and checksum, extracted inside their folder, fetched on request."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import lzma
import os
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.errors import first_line
from semilearn_bbam.util.progress import progress_bar

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Archive:
    """An archive of a release: `shows` is a path below the data folder that exists once it is extracted.

    `elsewhere` are other such paths, for content that the reader takes from another place; `others` are other file
    names of the same content, of unknown checksum; `into` is the folder below the data folder that it is extracted
    into.
    """

    name: str
    shows: str
    url: str = ""
    size: int | None = None
    sha256: str = ""
    into: str = ""
    others: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()

    def find(self, folder: Path) -> Path | None:
        """The archive in `folder` under any of its names."""
        return next((folder / name for name in (self.name, *self.others) if os.path.isfile(folder / name)), None)

    def is_extracted(self, data_dir: Path) -> bool:
        """Whether its content exists, extracted here or by hand; an interrupted extraction does not count."""
        # os.path, because Path.exists raises where a folder above may not be read.
        extracted = any(os.path.exists(data_dir / path) for path in (self.shows, *self.elsewhere))
        return extracted and not os.path.exists(self.staging_folder(data_dir))

    def part(self, folder: Path) -> Path:
        """Path of a download until it is complete."""
        return folder / f"{self.name}.part"

    def staging_folder(self, data_dir: Path) -> Path:
        """The folder that it is extracted into first; it remains only after an interruption."""
        return data_dir / f".extracting_{self.name}"

    def verify(self, path: Path) -> None:
        """DataError if size or checksum are known and differ."""
        if path.name != self.name:
            return
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            raise DataError(f"{path} has {size:,} bytes, the released one {self.size:,}; fetch it again")
        if self.sha256:
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                for chunk in progress_bar(_chunks(file), f"checking {path.name}", total=-(-size // CHUNK)):
                    digest.update(chunk)
            if digest.hexdigest() != self.sha256:
                raise DataError(f"{path} has another SHA-256 than the released file ({self.sha256}); fetch it again")

    def extract(self, path: Path, data_dir: Path) -> None:
        """Extract into a staging folder, then move everything into place, so that an interruption leaves no half.

        DataError, with nothing in place, for a damaged archive and for members that would leave the folder.
        """
        staging = self.staging_folder(data_dir)
        target = staging / self.into
        try:
            if staging.exists():
                shutil.rmtree(staging)
            target.mkdir(parents=True)
            if path.suffix == ".zip":
                _extract_zip(path, target)
            else:
                _extract_tar(path, target)
        except DAMAGED as error:
            shutil.rmtree(staging)
            raise DataError(f"the archive {path} is damaged ({first_line(error)}); fetch it again") from error
        except (OSError, RuntimeError) as error:  # a full disk, no permission, a bad bzip2 stream, an encrypted zip
            shutil.rmtree(staging, ignore_errors=True)
            reason = first_line(error)
            raise DataError(
                f"{path} cannot be extracted into {data_dir} ({reason}); fix that or fetch it again"
            ) from error
        except DataError:
            shutil.rmtree(staging)
            raise
        try:
            for file in [file for file in staging.rglob("*") if not file.is_dir()]:
                destination = data_dir / file.relative_to(staging)
                destination.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, destination)
            shutil.rmtree(staging)
        except OSError as error:
            raise DataError(f"{path} cannot be moved into {data_dir} ({error}); fix that and run again") from error

    def download(self, folder: Path) -> Path:
        """Download it into `folder`, from where an earlier try stopped; DataError unless size and checksum fit.

        An earlier partial file is not deleted: where it proves to be another file, the error names it.
        """
        if not (self.url and self.size and self.sha256):
            advice = f"; fetch it yourself from {self.url}" if self.url else ""
            raise DataError(f"{self.name} is not downloaded, because no size and checksum of it are known{advice}")
        part = self.part(folder)
        downloaded = part.stat().st_size if part.is_file() else 0
        if downloaded < self.size:
            _check_free_space(self.name, folder, self.size - downloaded)
            self._fetch(part, downloaded)
        size = part.stat().st_size
        if size < self.size:
            raise DataError(f"{self.url} stopped after {size:,} of {self.size:,} bytes; run again to go on")
        target = folder / self.name
        try:
            Archive(part.name, "", size=self.size, sha256=self.sha256).verify(part)
        except DataError as error:
            if downloaded:
                raise DataError(
                    f"{part} does not become the released file ({error}); delete it and run again"
                ) from error
            part.unlink()
            raise DataError(
                f"the download from {self.url} is not the released file and was deleted ({error})"
            ) from error
        os.replace(part, target)
        return target

    def _fetch(self, part: Path, downloaded: int) -> None:
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={downloaded}-"} if downloaded else {})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                if response.status != 206:  # the server sends the whole file again
                    downloaded = 0
                # A log-in page of the network, or a larger file: nothing of it is written.
                is_page = response.headers.get_content_type() == "text/html"
                if is_page or downloaded + int(response.headers.get("Content-Length") or 0) > (self.size or 0):
                    content = "a web page" if is_page else "a larger file"
                    raise DataError(f"{self.url} sent {content} instead of the released file; fetch it by hand")
                with open(part, "ab" if downloaded else "wb") as file:
                    chunks_left = -(-(self.size or 0) // CHUNK) - downloaded // CHUNK
                    for chunk in progress_bar(_chunks(response), f"fetching {self.name}", total=chunks_left):
                        downloaded += file.write(chunk)
                        if downloaded > (self.size or 0):  # it is another file, perhaps endless
                            break
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or first_line(error)
            raise DataError(
                f"{self.url} cannot be fetched ({reason}); run again to go on, or put {self.name} into {part.parent}"
            ) from error


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _member_path(archive: Path, folder: Path, name: str) -> Path:
    """Path of an extracted member; DataError if it is outside `folder`."""
    clean = name.replace("\\", "/")
    parts = clean.split("/")
    if clean.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in clean:
        raise DataError(f"the archive {archive} has the member {name!r}, which leads out of its folder; do not use it")
    return folder / clean


def _check_free_space(name: str, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{name} takes {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} free; make room")


def _extract_tar(path: Path, folder: Path) -> None:
    with tarfile.open(path) as archive:
        members = list(progress_bar(archive, f"reading {path.name}"))
        _check_end(archive)
        for member in members:
            _member_path(path, folder, member.name)
            if not (member.isfile() or member.isdir()):
                raise DataError(f"the archive {path} has {member.name!r}, a link or a device; do not use it")
        _check_free_space(f"the content of {path}", folder, sum(member.size for member in members))
        for member in progress_bar(members, f"extracting {path.name}"):
            if member.isfile():
                content = archive.extractfile(member)
                assert content is not None  # a regular file has content
                _write(_member_path(path, folder, member.name), content)


def _check_end(archive: tarfile.TarFile) -> None:
    """TarError unless the archive ends correctly: tarfile takes a bad header after the first one for the end.

    The rest is read because a compressed stream is compared with its checksum only at its end.
    """
    file = archive.fileobj
    assert file is not None  # it is open
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it is cut short or has a bad header")
    while file.read(CHUNK):
        pass


def _extract_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            _member_path(path, folder, member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"the archive {path} has {member.filename!r}, a link or a device; do not use it")
        _check_free_space(f"the content of {path}", folder, sum(member.file_size for member in members))
        for member in progress_bar(members, f"extracting {path.name}"):
            if not member.is_dir():
                with archive.open(member) as content:
                    _write(_member_path(path, folder, member.filename), content)


def _write(path: Path, content: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        shutil.copyfileobj(content, file, CHUNK)
