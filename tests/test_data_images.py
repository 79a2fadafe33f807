from __future__ import annotations

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semilearn_bbam.data import images as images_module
from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.images import (
    PLAIN_MODES,
    ImageFiles,
    decode_image,
    inspect_image,
    max_pixels,
    read_squares,
    resize_square,
)
from tests.conftest import naming

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


def save(path: Path, image: Image.Image | None = None, **options: object) -> str:
    (Image.fromarray(PIXELS) if image is None else image).save(path, **options)
    return str(path)


def claim(path: Path, side: int) -> str:
    """A PNG of a few bytes that claims `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return str(path)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm"])
def test_pixels_are_those_that_were_saved(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    assert inspect_image(path)[:2] == ("", "")
    decoded = decode_image(path)
    assert decoded.dtype == torch.uint8
    assert decoded.permute(1, 2, 0).is_contiguous()
    assert np.array_equal(decoded.permute(1, 2, 0).numpy(), PIXELS)


def test_a_jpeg_is_inspected_small_and_decoded_whole(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", quality=95)
    assert inspect_image(path)[:2] == ("", "")
    decoded = decode_image(path).permute(1, 2, 0).numpy().astype(int)
    assert decoded.shape == PIXELS.shape
    assert abs(decoded.mean() - PIXELS.mean()) < 2


@pytest.mark.parametrize(("suffix", "share"), [("jpg", 0.5), ("png", 0.5), ("tif", 0.5), ("png", 0.95), ("bmp", 0.6)])
def test_a_file_cut_short_is_found_and_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert inspect_image(str(path))[0] == "unreadable"
    with pytest.raises(DataError, match=naming(path, "decoded", "restore")):
        decode_image(str(path))


def test_faults_are_named(tmp_path: Path) -> None:
    save(tmp_path / "cut.jpg", Image.fromarray(PIXELS.repeat(8, 0).repeat(8, 1)))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:2000])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "noise.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)))
    assert inspect_image(str(tmp_path / "cut.jpg"))[:2] == ("unreadable", "the file is cut short")
    assert inspect_image(str(tmp_path / "empty.png"))[:2] == ("unreadable", "the file is empty")
    assert inspect_image(str(tmp_path / "text.jpg"))[:2] == ("unreadable", "not an image file")
    assert inspect_image(str(tmp_path / "noise.jpg"))[0] == "unreadable"
    assert inspect_image(str(tmp_path))[:2] != ("", "")
    assert inspect_image(str(tmp_path / "none.png"))[:2] == ("missing", "")
    assert inspect_image("a\0b.png")[0] == "unreadable"


@pytest.mark.parametrize("place", [20, 50, 200, 600])
def test_flipped_bytes_never_raise_anything_else(tmp_path: Path, place: int) -> None:
    for suffix in ("png", "jpg", "gif", "tif", "webp"):
        path = tmp_path / f"a.{suffix}"
        save(path)
        data = bytearray(path.read_bytes())
        data[place % len(data)] ^= 0xFF
        path.write_bytes(bytes(data))
        kind = inspect_image(str(path)).kind
        if kind == "":
            assert decode_image(str(path)).ndim == 3


@pytest.mark.parametrize(
    ("mode", "suffix", "detail"),
    [("CMYK", "jpg", "CMYK"), ("P", "png", "palette"), ("P", "gif", "palette"), ("I;16", "png", "16-bit")]
    + [("I", "tif", "32-bit"), ("F", "tif", "32-bit float"), ("LAB", "tif", "Lab")],
)
def test_odd_modes_are_named_and_can_still_be_decoded(tmp_path: Path, mode: str, suffix: str, detail: str) -> None:
    # Two colours, since a GIF of one grey is grey.
    image = Image.new(mode, (8, 8))
    if mode == "P":
        image.putpalette([255, 0, 0, 0, 255, 0])
        image.putpixel((0, 0), 1)
    path = save(tmp_path / f"a.{suffix}", image)
    assert inspect_image(path)[:2] == ("mode", detail)
    assert decode_image(path).shape == (3, 8, 8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_plain_modes(tmp_path: Path, mode: str) -> None:
    assert mode in PLAIN_MODES
    path = save(tmp_path / "a.png", Image.fromarray(PIXELS).convert(mode))
    assert inspect_image(path)[:2] == ("", "")
    decoded = decode_image(path).permute(1, 2, 0).numpy()
    assert np.array_equal(decoded, np.asarray(Image.fromarray(PIXELS).convert(mode).convert("RGB")))


def test_transparency_is_put_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    image.putpixel((2, 0), (200, 0, 0, 51))
    colours = decode_image(save(tmp_path / "a.png", image))[:, 0].T.tolist()
    assert colours[:2] == [[200, 0, 0], [255, 255, 255]]
    # 51 of 255 is a fifth of red and four fifths of white.
    assert colours[2] == pytest.approx([0.2 * 200 + 0.8 * 255, 0.8 * 255, 0.8 * 255], abs=1)
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 9, 9, 9])
    palette.putpixel((1, 0), 1)
    path = save(tmp_path / "p.png", palette, transparency=1)
    assert decode_image(path)[:, 0].T.tolist() == [[0, 0, 255], [255, 255, 255]]


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    values = np.array([[0, 256, 257, 32896, 65535]], dtype=np.uint16)
    path = save(tmp_path / "a.png", Image.fromarray(values))
    assert decode_image(path)[:, 0].tolist() == [[0, 1, 1, 128, 255]] * 3


def test_a_bomb_is_found_without_decoding_it(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert inspect_image(claim(tmp_path / "a.png", 40_000))[:2] == ("bomb", "1600000000 pixels")
        side = int(max_pixels() ** 0.5) + 1
        assert inspect_image(claim(tmp_path / "b.png", side))[:2] == ("bomb", f"{side} x {side}")
        assert inspect_image(claim(tmp_path / "c.png", side - 1))[0] != "bomb"
    assert caught == []
    with pytest.raises(DataError, match=naming("a.png", "decoded")):
        decode_image(str(tmp_path / "a.png"))


def test_threads_leave_the_filters_of_warnings_as_they_were(tmp_path: Path) -> None:
    path, before = claim(tmp_path / "a.png", 10_000), list(warnings.filters)
    with ThreadPoolExecutor(16) as pool:
        faults = list(pool.map(inspect_image, [path] * 400))
    assert [fault[:2] for fault in faults] == [("bomb", "10000 x 10000")] * 400
    assert warnings.filters == before


def test_resizing_keeps_what_fits(tmp_path: Path) -> None:
    image = decode_image(save(tmp_path / "a.png"))
    assert resize_square(image, 8).shape == (3, 8, 8)
    square = image[:, :, :16]
    assert torch.equal(resize_square(square, 16), square)
    flat = torch.full((3, 9, 5), 77, dtype=torch.uint8)
    assert (resize_square(flat, 12) == 77).all()


@pytest.mark.parametrize("size", [7, 16, 40])
@pytest.mark.parametrize("shape", [(16, 24), (16, 16), (150, 301)])
def test_the_order_in_memory_does_not_change_the_pixels(shape: tuple[int, int], size: int) -> None:
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)).permute(2, 0, 1)
    resized = resize_square(pixels, size)
    assert resized.is_contiguous()
    assert torch.equal(resized, resize_square(pixels.contiguous(), size))
    if shape == (size, size):
        assert torch.equal(resized, pixels)


def test_squares_of_files_and_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ImageFiles([save(tmp_path / f"{i}.png", Image.fromarray(PIXELS[i:, i:])) for i in range(4)])
    decoded = []
    decode = images_module.decode_image
    monkeypatch.setattr(images_module, "decode_image", lambda path, *a: (decoded.append(path), decode(path, *a))[1])
    rows = np.array([3, 0, 3])
    squares = read_squares(files, rows, {8, 16})
    assert decoded == [files.paths[row] for row in rows]
    for size, batch in squares.items():
        assert batch.shape == (3, 3, size, size)
        assert all(torch.equal(batch[i], resize_square(files[row], size)) for i, row in enumerate(rows))
    array = np.stack([PIXELS.transpose(2, 0, 1)] * 4) + np.arange(4, dtype=np.uint8)[:, None, None, None]
    for size, batch in read_squares(array, rows, {8, 16}).items():
        expected = [resize_square(torch.from_numpy(array[row]), size) for row in rows]
        assert torch.equal(batch, torch.stack(expected))


def test_lists_of_files(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", Image.new("L", (4, 4), number))
    listed = ImageFiles([tmp_path / f"{number}.png" for number in range(3)])
    assert len(listed) == 3
    assert [int(image.max()) for image in listed] == [0, 1, 2]
    assert [int(image.max()) for image in listed[1:]] == [1, 2]
    assert listed.take_rows(np.array([2, 0])).paths == [listed.paths[2], listed.paths[0]]
    assert ImageFiles([tmp_path / "none.png", "\ud800"]).identity() == ["none.png -1", "\ud800 -1"]
    size = (tmp_path / "1.png").stat().st_size
    assert listed.identity()[1] == f"1.png {size}"
