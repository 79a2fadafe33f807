"""What can be wrong with an archive or a server beyond `tests/test_data_archives.py`: no stack trace, nothing half."""

from __future__ import annotations

import bz2
import errno
import hashlib
import io
import lzma
import random
import shutil
import socket
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from semilearn_bbam.data import archives
from semilearn_bbam.data.archives import Archive
from semilearn_bbam.data.dataset import DataError
from tests.conftest import naming

FILES = {f"set/{i}.txt": random.Random(i).randbytes(700) for i in range(4)}


def tar_bytes(mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def extracted(content: bytes, name: str, folder: Path) -> dict[str, bytes]:
    """What is in an empty folder after extracting an archive into it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder.parent / name
    path.write_bytes(content)
    try:
        Archive(name, "set").extract(path, folder)
    finally:
        files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return files


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("x.tar.gz", tar_bytes("w:gz")),
        ("x.tar.bz2", tar_bytes("w:bz2")),
        ("x.tar.xz", tar_bytes("w:xz")),
        ("x.zip", zip_bytes()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_changed_bit_is_found_or_harmless(name: str, whole: bytes, tmp_path: Path) -> None:
    """These formats hold checksums: either everything comes out as it was, or nothing does."""
    chance = random.Random(0)
    outcomes = []
    for _ in range(60):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        try:
            outcomes.append(extracted(bytes(changed), name, tmp_path / "data"))
        except DataError:
            outcomes.append({str(path): b"" for path in (tmp_path / "data").iterdir()})
    assert all(files in ({}, FILES) for files in outcomes)
    assert outcomes.count({}) > 30


def test_a_tar_cut_anywhere_is_found(tmp_path: Path) -> None:
    """Only the end mark and the headers show it: tarfile takes a bad header for the end."""
    whole = tar_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in range(0, end, 256):
        with pytest.raises(DataError, match="damaged"):
            extracted(whole[:length], "x.tar", tmp_path / "data")
    broken = bytearray(whole)
    second = whole.index(b"set/1.txt")
    broken[second] ^= 1
    with pytest.raises(DataError, match="bad header"):
        extracted(bytes(broken), "x.tar", tmp_path / "data")
    assert extracted(whole, "x.tar", tmp_path / "data") == FILES


def test_an_encrypted_zip_is_a_sentence(tmp_path: Path) -> None:
    content = bytearray(zip_bytes())
    for sign, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.find(sign)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(sign, at + 4)
    with pytest.raises(DataError, match=naming("x.zip", "encrypted")):
        extracted(bytes(content), "x.zip", tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", fail)
    with pytest.raises(DataError, match=naming("x.tar", tmp_path / "data", "No space left")):
        extracted(tar_bytes(), "x.tar", tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_something_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_bytes())
    (tmp_path / "data" / "set" / "0.txt").mkdir(parents=True)
    archive = Archive("x.tar", "set")
    with pytest.raises(DataError, match=naming("x.tar", "0.txt")):
        archive.extract(tmp_path / "x.tar", tmp_path / "data")
    assert not archive.is_extracted(tmp_path / "data")
    (tmp_path / "data" / "set" / "0.txt").rmdir()
    archive.extract(tmp_path / "x.tar", tmp_path / "data")
    assert archive.is_extracted(tmp_path / "data")


def test_content_is_found_elsewhere(tmp_path: Path) -> None:
    archive = Archive("x.tar", "kit/set", elsewhere=("set",))
    assert not archive.is_extracted(tmp_path)
    (tmp_path / "set").mkdir()
    assert archive.is_extracted(tmp_path)
    assert not archive.is_extracted(tmp_path / "set")


WHOLE = bytes(range(200))


@pytest.fixture
def answer() -> Iterator[Callable[[bytes], Archive]]:
    """`answer(reply)`: an archive of content WHOLE at an address where a server sends `reply` to every request."""
    servers: list[socket.socket] = []

    def serve(server: socket.socket, reply: bytes) -> None:
        try:
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply)
        except OSError:  # closed at the end of the test
            return

    def start(reply: bytes) -> Archive:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threading.Thread(target=serve, args=(server, reply), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.tar"
        return Archive("x.tar", "set", url, len(WHOLE), hashlib.sha256(WHOLE).hexdigest())

    yield start
    for server in servers:
        server.close()


def reply(headers: str, body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (b"no HTTP\r\n\r\n", ("cannot be fetched",)),
        (reply("Transfer-Encoding: chunked", b"5\r\nab"), ("cannot be fetched",)),
        (reply("Content-Length: many", WHOLE), ("cannot be fetched",)),
        (reply("Content-Type: text/html; charset=utf-8", b"<html>log in"), ("web page",)),
        (reply("Content-Length: 5000", b"x" * 5000), ("larger file",)),
        (reply("Connection: close", b"x" * 5000), ("not the released file", "deleted")),
    ],
)
def test_broken_servers_are_a_sentence(
    response: bytes, message: tuple[str, ...], answer: Callable[[bytes], Archive], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=naming("x.tar", *message)):
        answer(response).download(tmp_path)
    assert [file for file in tmp_path.iterdir() if file.stat().st_size] == []


def test_a_partial_file_of_something_else_is_kept_and_named(answer: Callable[[bytes], Archive], tmp_path: Path) -> None:
    part = tmp_path / "x.tar.part"
    part.write_bytes(b"another" * 10)
    rest = WHOLE[70:]
    archive = answer(reply(f"Content-Length: {len(rest)}", rest, "206 Partial Content"))
    with pytest.raises(DataError, match=naming("x.tar.part", "released file", "SHA-256", "delete")):
        archive.download(tmp_path)
    assert part.read_bytes() == b"another" * 10 + rest
    with pytest.raises(DataError, match=naming("x.tar.part", "released file")):
        # nor is it taken for whole the second time
        archive.download(tmp_path)
    part.write_bytes(WHOLE[:70])
    assert archive.download(tmp_path).read_bytes() == WHOLE


def test_a_web_page_does_not_touch_a_partial_file(answer: Callable[[bytes], Archive], tmp_path: Path) -> None:
    (tmp_path / "x.tar.part").write_bytes(WHOLE[:70])
    with pytest.raises(DataError, match=naming("x.tar", "web page")):
        answer(reply("Content-Type: text/html", b"<html>")).download(tmp_path)
    assert (tmp_path / "x.tar.part").read_bytes() == WHOLE[:70]


def test_no_download_that_does_not_fit(
    answer: Callable[[bytes], Archive], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = archives.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: usage)
    archive = answer(reply(f"Content-Length: {len(WHOLE)}", WHOLE))
    with pytest.raises(DataError, match=naming("x.tar", "0.0 GB", "make room")):
        archive.download(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_formats_are_recognised_by_content_too(tmp_path: Path) -> None:
    """A tar under another packing's name is still a tar: repacked copies exist."""
    for content in (tar_bytes(), lzma.compress(tar_bytes()), bz2.compress(tar_bytes())):
        assert extracted(content, "x.tar.gz", tmp_path / "data") == FILES
