from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from semilearn_bbam.data import archives
from semilearn_bbam.data.archives import Archive
from semilearn_bbam.data.dataset import DataError
from tests.conftest import naming

FILES = {"set/a.txt": b"one", "set/inner/b.txt": b"two" * 1000}


def write_tar(path: Path, files: dict[str, bytes] = FILES, *extra: tarfile.TarInfo) -> Path:
    mode = {".gz": "w:gz", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


def write_zip(path: Path, files: dict[str, bytes] = FILES, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def everything_below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.xz", "x.zip"])
def test_extracts_and_can_run_again(name: str, tmp_path: Path) -> None:
    archive = Archive(name, "set")
    path = (write_zip if name.endswith("zip") else write_tar)(tmp_path / name)
    data = tmp_path / "data"
    (data / "set").mkdir(parents=True)
    (data / "set" / "own.txt").write_text("the user's")
    archive.extract(path, data)
    assert everything_below(data) == FILES | {"set/own.txt": b"the user's"}
    assert archive.is_extracted(data)
    archive.extract(path, data)
    assert everything_below(data) == FILES | {"set/own.txt": b"the user's"}


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("evil", "message"),
    [
        (member("../out.txt"), ("leads out",)),
        (member("set/../../out.txt"), ("leads out",)),
        (member("/out.txt"), ("leads out",)),
        (member("C:/out.txt"), ("leads out",)),
        (member("..\\out.txt"), ("leads out",)),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), ("link", "device")),
        (member("link", tarfile.LNKTYPE, "../out.txt"), ("link", "device")),
        (member("device", tarfile.CHRTYPE), ("link", "device")),
        (member("pipe", tarfile.FIFOTYPE), ("link", "device")),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_tars_cannot_leave_their_folder(evil: tarfile.TarInfo, message: tuple[str, ...], tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", FILES, evil)
    data = tmp_path / "deep" / "data"
    data.mkdir(parents=True)
    with pytest.raises(DataError, match=naming(repr(evil.name), *message)):
        Archive("x.tar", "set").extract(path, data)
    assert everything_below(tmp_path) == {"x.tar": path.read_bytes()}
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "set/../../out.txt"])
def test_zips_cannot_leave_their_folder(name: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {**FILES, name: b"evil"})
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=naming(repr(name), "leads out")):
        Archive("x.zip", "set").extract(path, tmp_path / "data")
    assert everything_below(tmp_path) == {"x.zip": path.read_bytes()}


def test_links_in_zips_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"link": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(DataError, match=naming("'link'", "link or a device")):
        Archive("x.zip", "set").extract(path, tmp_path / "data")


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.xz", "x.zip"])
def test_damaged_archives_leave_nothing(name: str, tmp_path: Path) -> None:
    path = (write_zip if name.endswith("zip") else write_tar)(tmp_path / name)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 4], b"no archive", b""):
        path.write_bytes(content)
        (tmp_path / "data").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=naming(f"{name} is damaged", "fetch")):
            Archive(name, "set").extract(path, tmp_path / "data")
        assert list((tmp_path / "data").iterdir()) == []


def test_an_interrupted_extraction_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, archive = write_tar(tmp_path / "x.tar"), Archive("x.tar", "set")
    (tmp_path / "data").mkdir()
    replace, moved = archives.os.replace, []

    def stop_after_one(source: Path, place: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(place)
        replace(source, place)

    monkeypatch.setattr(archives.os, "replace", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        archive.extract(path, tmp_path / "data")
    assert (tmp_path / "data" / "set").exists()
    assert not archive.is_extracted(tmp_path / "data")
    monkeypatch.setattr(archives.os, "replace", replace)
    archive.extract(path, tmp_path / "data")
    assert archive.is_extracted(tmp_path / "data")
    assert everything_below(tmp_path / "data") == FILES


def test_a_content_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "x.zip")
    usage = archives.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match="takes 0.0 GB"):
        Archive("x.zip", "set").extract(path, tmp_path / "data")


def test_size_and_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    Archive("x.tar", "set", size=7, sha256=digest).verify(path)
    Archive("x.tar", "set").verify(path)
    with pytest.raises(DataError, match=naming("x.tar", "7 bytes", 8, "fetch")):
        Archive("x.tar", "set", size=8, sha256=digest).verify(path)
    with pytest.raises(DataError, match=naming("x.tar", "SHA-256", "fetch")):
        Archive("x.tar", "set", size=7, sha256="0" * 64).verify(path)
    other = tmp_path / "x.tar.xz"
    path.rename(other)
    repacked = Archive("x.tar", "set", size=8, sha256=digest, others=("x.tar.xz",))
    assert repacked.find(tmp_path) == other
    repacked.verify(other)  # another packing of the same files has another checksum


CONTENT = bytes(range(256)) * 20


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT in the way that the first part of the path names."""

    ranges: list[str] = []

    def do_GET(self) -> None:
        way = self.path.strip("/").split("/")[0]
        requested = self.headers.get("Range", "")
        self.ranges.append(requested)
        content = b"x" * len(CONTENT) if way == "wrong" else CONTENT
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and way != "whole" else 0
        if way == "gone":
            self.send_error(404)
            return
        body = content[start : start + 1000] if way == "short" else content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def serve() -> Iterator[Callable[[str], Archive]]:
    Handler.ranges = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    digest = hashlib.sha256(CONTENT).hexdigest()
    yield lambda way: Archive("x.tar", "set", f"{address}/{way}/x.tar", len(CONTENT), digest)
    server.shutdown()
    server.server_close()


def test_download(serve: Callable[[str], Archive], tmp_path: Path) -> None:
    assert serve("good").download(tmp_path).read_bytes() == CONTENT
    assert everything_below(tmp_path) == {"x.tar": CONTENT}


@pytest.mark.parametrize(("way", "ranges"), [("good", ["bytes=700-"]), ("whole", ["bytes=700-"])])
def test_download_goes_on(way: str, ranges: list[str], serve: Callable[[str], Archive], tmp_path: Path) -> None:
    (tmp_path / "x.tar.part").write_bytes(CONTENT[:700])
    assert serve(way).download(tmp_path).read_bytes() == CONTENT
    assert Handler.ranges == ranges


def test_an_interrupted_download_goes_on(serve: Callable[[str], Archive], tmp_path: Path) -> None:
    for done in range(1000, len(CONTENT), 1000):
        with pytest.raises(DataError, match=naming(f"{done:,} of 5,120 bytes", "run again")):
            serve("short").download(tmp_path)
    assert serve("short").download(tmp_path).read_bytes() == CONTENT


def test_a_wrong_file_is_not_kept(serve: Callable[[str], Archive], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("not the released file", "deleted", "SHA-256")):
        serve("wrong").download(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer(serve: Callable[[str], Archive], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("x.tar", "Not Found", tmp_path)):
        serve("gone").download(tmp_path)
    unreachable = Archive("x.tar", "set", "http://127.0.0.1:9/x.tar", 5, "0" * 64)
    with pytest.raises(DataError, match="cannot be fetched"):
        unreachable.download(tmp_path)
    with pytest.raises(DataError, match=naming("size and checksum", "http://127.0.0.1:9/x.tar")):
        Archive("x.tar", "set", "http://127.0.0.1:9/x.tar").download(tmp_path)
