"""Images that are not 8-bit RGB: which range they are scaled from, orientation, transparency, and what is said."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image

from semilearn_bbam.data import load_source
from semilearn_bbam.data.cache import cache_images
from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.images import ImageFiles, ImageItems, decode_image, inspect_image
from semilearn_bbam.data.inputs import Inputs, read_inputs
from semilearn_bbam.data.pixels import image_pixels, natural_range, parse_range
from semilearn_bbam.data.vector_cache import item_digests
from semilearn_bbam.errors import UserError
from tests.conftest import has_line, naming, settings

RAMP = np.linspace(0, 1, 64, dtype=np.float64).reshape(8, 8)
TOPS = {"ct12.png": (np.uint16, 4092), "full16.png": (np.uint16, 63960), "i8.tif": (np.int32, 254)}
TOPS |= {"i20.tif": (np.int32, 1_000_000), "share.tif": (np.float32, 0.99), "byte.tif": (np.float32, 251.5)}
TOPS |= {"f12.tif": (np.float32, 4000), "f100k.tif": (np.float32, 1e5), "overshoot.tif": (np.float32, 1.02)}


def save(path: Path, values: np.ndarray) -> str:
    Image.fromarray(values).save(path)
    return str(path)


def ramp(folder: Path, name: str) -> str:
    kind, top = TOPS[name]
    return save(folder / name, (RAMP * top).astype(kind))


@pytest.mark.parametrize("name", TOPS)
def test_no_depth_becomes_black(tmp_path: Path, name: str) -> None:
    pixels = decode_image(ramp(tmp_path, name))
    assert pixels.shape == (3, 8, 8)
    # From black to white in even steps.
    assert np.abs(pixels[0].numpy() - RAMP * 255).max() < 20
    assert inspect_image(str(tmp_path / name)).kind == "mode"


@pytest.mark.parametrize(
    ("low", "high", "is_float", "expected"),
    [
        (0, 200, False, (0, 255)),
        (0, 256, False, (0, 4095)),
        (7, 4095, False, (0, 4095)),
        (0, 4096, False, (0, 65535)),
        (0, 65536, False, None),
        (-1024, 3071, False, None),
        (0, 9, False, None),
        (0, 1, True, (0, 1)),
        (0, 0.01, True, None),
        (0, 1.02, True, None),
        (-1, 1, True, (-1, 1)),
        (-0.01, 0.9, True, None),
        (0, 255, True, (0, 255)),
        (0, 60000, True, (0, 65535)),
    ],
)
def test_the_range_is_the_first_that_holds_all_and_shows_something(
    low: float, high: float, is_float: bool, expected: tuple[float, float] | None
) -> None:
    assert natural_range(low, high, is_float) == expected


def test_images_of_one_camera_keep_their_brightness(tmp_path: Path) -> None:
    bright = decode_image(save(tmp_path / "bright.png", (RAMP * 4000).astype(np.uint16)))
    dim = decode_image(save(tmp_path / "dim.png", (RAMP * 1000).astype(np.uint16)))
    assert int(bright.max()) == round(4000 / 4095 * 255)
    assert int(dim.max()) == round(1000 / 4095 * 255)


def test_equal_values_are_black_and_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    flat = save(tmp_path / "flat.tif", np.full((4, 4), 70000, np.int32))
    assert int(decode_image(flat).max()) == 0
    assert inspect_image(flat).constant
    hole = save(tmp_path / "hole.tif", np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32))
    assert inspect_image(hole).kind == "unreadable"
    with pytest.raises(DataError, match=naming("hole.tif", "not finite")):
        decode_image(hole)


def test_a_given_range_counts_for_all_and_is_checked(tmp_path: Path) -> None:
    assert parse_range("auto") is None
    assert parse_range("-1024 3071") == (-1024, 3071)
    assert parse_range("0, 0.5") == (0, 0.5)
    for text in ("", "12", "5 5", "9 1", "0 nan", "a b", "0 1 2"):
        with pytest.raises(UserError, match="image_range"):
            parse_range(text)
    path = save(tmp_path / "ct.tif", np.array([[-2000, -1024, 1024, 3071, 9999]], np.int32))
    files = ImageFiles([path], (-1024, 3071))
    assert files[0][0, 0].tolist() == [0, 0, 128, 255, 255]
    assert torch.equal(files.take_rows(np.array([0]))[0], files[0])
    items = ImageItems([path, Image.open(path)], channels=3, value_range=(-1024, 3071))
    assert torch.equal(items[0], files[0])
    assert torch.equal(items[1], files[0])


def test_a_cache_of_another_range_or_of_an_older_version_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = ramp(tmp_path, "ct12.png"), tmp_path / "cache"
    cached = {span: cache_images(ImageFiles([path], span), 8, "disk", str(folder)) for span in (None, (0.0, 65535.0))}
    assert int(cached[None][np.array([0])].max()) == 255
    assert int(cached[(0.0, 65535.0)][np.array([0])].max()) == 16
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr("semilearn_bbam.data.cache.PIXELS", "1")
    cache_images(ImageFiles([path]), 8, "disk", str(folder))
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((24, 48, 3), np.uint8)
    upright[:12, :24] = 255  # white at the top left
    turn = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud}
    turn |= {5: lambda a: a.swapaxes(0, 1), 6: np.rot90, 7: lambda a: np.rot90(a, 2).swapaxes(0, 1)}
    turn |= {8: lambda a: np.rot90(a, -1)}
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{suffix}"
    stored = np.ascontiguousarray(turn[orientation](upright))
    Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    pixels = decode_image(str(path)).permute(1, 2, 0).numpy()
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 3
    if suffix != "tif":  # Pillow turns a TIFF by itself
        assert inspect_image(str(path)).turned == (orientation > 1)


def test_broken_exif_data_leave_an_image_as_it_is(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    for number, exif in enumerate(
        (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x09")
    ):
        path = tmp_path / f"{number}.png"
        Image.fromarray(values).save(path, exif=exif)
        assert np.array_equal(decode_image(str(path)).permute(1, 2, 0).numpy(), values)
        assert inspect_image(str(path))[:2] == ("", "")


def test_rgb_and_grey_images_are_what_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for mode in ("RGB", "L", "1", "CMYK", "P"):
        image = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).convert(mode)
        expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        assert torch.equal(image_pixels(image), expected)


def colour_png(path: Path, values: np.ndarray) -> str:
    """An RGB PNG of 16 bits, which Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return str(path)


def test_colours_of_12_in_16_bits_are_refused_since_pillow_drops_the_lower_8(tmp_path: Path) -> None:
    values = np.repeat(RAMP[..., None], 3, axis=2)
    assert inspect_image(colour_png(tmp_path / "a.png", values * 4095))[:1] == ("range",)
    full = inspect_image(colour_png(tmp_path / "b.png", values * 65535))
    assert full[:2] == ("", "")
    assert int(decode_image(str(tmp_path / "b.png")).max()) == 255


def test_what_shows_nothing_is_recognised(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "flat.jpg")
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "checks.jpg", quality=100)  # grey at an eighth
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    noise[..., 3] = 0
    Image.fromarray(noise).save(tmp_path / "hidden.png")
    found = {name: inspect_image(str(tmp_path / name)).constant for name in ("flat.jpg", "checks.jpg", "hidden.png")}
    assert found == {"flat.jpg": True, "checks.jpg": False, "hidden.png": True}


def test_several_pictures_in_a_file(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("a.tif", "a.gif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert inspect_image(str(tmp_path / name)).several
        assert decode_image(str(tmp_path / name))[:, 0, 0].tolist() == [255, 0, 0]


def test_files_that_are_no_image_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "lfs.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "git lfs pull" in inspect_image(str(tmp_path / "lfs.jpg")).detail
    data = bytearray(io.BytesIO(Path(ramp(tmp_path, "share.tif")).read_bytes()).getvalue())
    data[2:4] = b"*\0"
    for place in range(0, len(data) - 12):  # the tag BitsPerSample: 64
        if data[place : place + 4] == struct.pack("<HH", 258, 3):
            data[place + 8 : place + 10] = struct.pack("<H", 64)
    (tmp_path / "double.tif").write_bytes(bytes(data))
    assert "TIFF" in inspect_image(str(tmp_path / "double.tif")).detail


def test_heic_needs_its_package_and_then_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(40))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "pip install pillow-heif" in inspect_image(str(path)).detail
    with pytest.raises(DataError, match=naming("a.heic", "pillow-heif")):
        decode_image(str(path))


def test_heic_is_decoded_where_the_package_is(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 32), (200, 30, 40))
    pillow_heif.from_pillow(picture).save(tmp_path / "a.jpg", format="HEIF")  # under the name that phones' exports give
    pixels = decode_image(str(tmp_path / "a.jpg"))
    assert pixels.shape == (3, 32, 64)
    assert pixels[:, 16, 32].tolist() == pytest.approx([200, 30, 40], abs=6)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A manifest of ten images: plain, 12-bit, float, palette, CMYK, transparent, turned, flat, animated."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rgb = [Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8)) for _ in range(10)]
    exif = Image.Exif()
    exif[274] = 6
    rgb[0].save(folder / "plain.png")
    rgb[1].quantize(8).save(folder / "web.png")
    rgb[2].convert("CMYK").save(folder / "print.jpg")
    ramp(folder, "ct12.png")
    ramp(folder, "i20.tif")
    ramp(folder, "share.tif")
    alpha = np.dstack([np.asarray(rgb[3]), rng.integers(0, 256, (12, 9), np.uint8)])
    Image.fromarray(alpha).save(folder / "glass.png")
    rgb[4].save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (9, 9), "red").save(folder / "flat.png")
    rgb[5].save(folder / "pages.tif", save_all=True, append_images=rgb[6:8])
    names = sorted(path.name for path in folder.iterdir())
    (folder / "labels.csv").write_text("path,labels\n" + "".join(f"{name},cat;dog\n" for name in names))
    (folder / "test.csv").write_text("path,labels\nheld.png,cat;dog\n")
    rgb[9].save(folder / "held.png")
    return folder


def options(folder: Path, **changes: Any) -> Any:
    cache = folder.parent / "cache"
    given = {"dataset": "manifest", "data_dir": folder, "manifest": "labels.csv", "test": "test.csv"}
    return settings(**given, img_size=16, cache_dir=cache, **changes)


def test_what_was_converted_is_said_with_counts_and_names(odd: Path) -> None:
    source = load_source(options(odd))
    assert source.problems == ()
    said = "\n".join(source.notes)
    assert has_line(said, "converted to RGB", "1 CMYK", "1 palette", "1 16-bit", "1 32-bit, ", "1 32-bit float")
    assert has_line(said, "1 from 0..4095", "1 from 0..1", "image_range")
    assert has_line(said, "its own lowest", "i20.tif", "0..1e+06")
    assert has_line(said, "EXIF", "1 image(s)")
    assert has_line(said, "white", "1 image(s)")
    assert has_line(said, "pages.tif", "first")
    assert has_line(said, "one value", "flat.png")
    fixed = "\n".join(load_source(options(odd, image_range="0 4095")).notes)
    assert has_line(fixed, "0..4095", "3 image(s)", "cut", "i20.tif")
    assert "lowest" not in fixed


def test_strict_refuses_the_same_images_and_its_cure_works(odd: Path) -> None:
    with pytest.raises(DataError, match=naming("5 image(s)", "web.png", "image_modes: convert")) as caught:
        load_source(options(odd, image_modes="strict"))
    assert "5 bad item(s)" in str(caught.value)
    assert len(load_source(options(odd, image_modes="convert")).train) == 10


def test_the_range_reaches_training_and_its_cache(odd: Path) -> None:
    plain, fixed = (load_source(options(odd, **more)) for more in ({}, {"image_range": "0 65535"}))
    row = list(plain.train_ids).index(next(name for name in plain.train_ids if name.startswith("ct12")))
    assert int(plain.train[row].max()) == 255
    assert int(fixed.train[row].max()) == 16
    cached = load_source(options(odd, image_range="0 65535", cache="disk"))
    assert int(np.asarray(cached.train[np.array([row])]).max()) == 16


def test_vectors_of_another_range_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    path = ramp(tmp_path, "ct12.png")
    digests = [item_digests(ImageFiles([path], span))[0] for span in (None, (0.0, 4095.0), (0.0, 65535.0), None)]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


def test_a_range_that_is_none_is_an_error_before_the_data_are_read(odd: Path) -> None:
    with pytest.raises(UserError, match=naming("image_range", "0 4095")):
        load_source(options(odd, image_range="12 bit"))


def test_prediction_reads_and_says_the_same(odd: Path) -> None:
    def read(modes: str) -> tuple[Inputs, list[str]]:
        inputs = read_inputs(odd, "image", Namespace(image_modes=modes))
        _, problems = inputs.checked(0, len(inputs))
        return inputs, sorted(problem.item for problem in problems.values())

    inputs, bad = read("convert")
    assert bad == []
    assert has_line("\n".join(inputs.image_notes("auto")), "1 from 0..4095", "1 from 0..1")
    assert has_line("\n".join(inputs.image_notes("0 9")), "0..9", "3 image(s)")
    _, bad = read("strict")
    assert bad == ["ct12.png", "i20.tif", "print.jpg", "share.tif", "web.png"]
