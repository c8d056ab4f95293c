"""Every way in which a plain file stores a picture or a mask gives the same pixels, or one clear message."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from sgcldff.core.errors import InputError
from sgcldff.core.settings import IngestSpec
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import ingest
from sgcldff.slides import open_slide
from sgcldff.slides.images import read_grey, read_rgb
from sgcldff.slides.pixels.samples import mask_values
from tests.sgcldff.pictures import DEEP, PICTURE, SHAPE, error_of, read, stored_as, with_alpha

RGBA, ON_WHITE = with_alpha(PICTURE)
MASK = np.zeros(SHAPE, np.uint8)
MASK[40:90, 60:200], MASK[50:70, 80:120] = 128, 255


def by_pillow(pixels=PICTURE, mode=None, **settings):
    image = Image.fromarray(pixels)
    return lambda path: (image.convert(mode) if mode else image).save(path, **settings)


def paletted(path):
    """Write a palette of which one entry is transparent."""
    image = Image.fromarray(ON_WHITE).quantize(16)
    clear = int(np.asarray(image)[0, -1])
    colours = image.getpalette()
    colours[3 * clear : 3 * clear + 3] = (0, 0, 0)
    image.putpalette(colours)
    image.save(path, transparency=clear)


def chunks():
    """Write a PNG with a text and a profile of 3 MB each."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "a smear " * 400_000, zip=True)
    return lambda path: Image.fromarray(PICTURE).save(path, pnginfo=texts, icc_profile=bytes(3_000_000))


def transparent_colour(path):
    """Name a colour transparent that is written black."""
    Image.fromarray(np.where(RGBA[..., 3:] == 0, 0, PICTURE).astype(np.uint8)).save(path, transparency=(0, 0, 0))


SAME = {
    "rgb.png": (by_pillow(), PICTURE),
    "rgb.bmp": (by_pillow(), PICTURE),
    "deep.png": (lambda path: path.write_bytes(imagecodecs.png_encode(DEEP)), PICTURE),
    "clear.png": (by_pillow(RGBA), ON_WHITE),
    "deep_clear.png": (lambda path: path.write_bytes(imagecodecs.png_encode(RGBA.astype(np.uint16) * 257)), ON_WHITE),
    "clear.webp": (by_pillow(RGBA, lossless=True), ON_WHITE),
    "clear_colour.png": (transparent_colour, ON_WHITE),
    "clear_palette.png": (paletted, np.asarray(Image.fromarray(ON_WHITE).quantize(16).convert("RGB"))),
    "palette.png": (
        lambda path: Image.fromarray(PICTURE).quantize(16).save(path),
        np.asarray(Image.fromarray(PICTURE).quantize(16).convert("RGB")),
    ),
    "chunks.png": (chunks(), PICTURE),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_pixels_as_the_plain_picture(tmp_path, name):
    write_it, shown = SAME[name]
    write_it(tmp_path / name)
    assert np.array_equal(read_rgb(tmp_path / name), shown)
    assert np.array_equal(read(tmp_path / name), shown)


def test_jpegs_of_other_colours_are_as_pillow_shows_them(tmp_path):
    Image.fromarray(PICTURE).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(tmp_path, orientation, suffix):
    """As phones write them: the sensor's pixels, and how the phone was held."""
    path, exif = tmp_path / f"photo.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    exact = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(stored_as(PICTURE, orientation)).save(path, exif=exif, **exact)
    with Image.open(path) as image:
        viewed = np.asarray(ImageOps.exif_transpose(image))
    assert np.abs(viewed.astype(int) - PICTURE).mean() < 1
    assert np.array_equal(read_rgb(path), viewed)
    assert np.array_equal(read(path), viewed)
    assert open_slide(path, 0.25).ref.orientation == orientation


@pytest.mark.parametrize("orientation", [3, 5, 8])
def test_masks_stand_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored_as(MASK, orientation)).save(tmp_path / "mask.png", exif=exif)
    assert np.array_equal(read_grey(tmp_path / "mask.png"), MASK)


def test_pictures_after_a_phones_photo_are_ignored(tmp_path):
    """Phones add a map of depths to a photo, as a second picture of the file."""
    Image.fromarray(PICTURE).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (50, 40))], quality=100
    )
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - PICTURE).mean() < 2


def test_one_of_several_frames_has_to_be_named(tmp_path):
    other = Image.fromarray(PICTURE[::-1])
    Image.fromarray(PICTURE).save(tmp_path / "a.png", save_all=True, append_images=[other], default_image=False)
    assert "contains 2 pictures" in error_of(tmp_path / "a.png")
    assert np.array_equal(read(f"{tmp_path / 'a.png'}#page=1"), PICTURE)
    assert "there is no #page=3" in error_of(tmp_path / "a.png#page=3")


GREY = Image.fromarray(PICTURE).convert("L")
REFUSED = {
    "grey.png": lambda path: GREY.save(path),
    "grey.jpg": lambda path: GREY.save(path),
    "grey_alpha.png": lambda path: GREY.convert("LA").save(path),
    "bits.png": lambda path: GREY.convert("1").save(path),
    "deep_grey.png": lambda path: Image.fromarray(DEEP[..., 0]).save(path),
    "grey_palette.png": lambda path: GREY.quantize(16).save(path),
    "float.pfm": lambda path: Image.fromarray(PICTURE[..., 0].astype(np.float32)).save(path),
}


@pytest.mark.parametrize("name", REFUSED)
def test_images_without_colours_are_refused(tmp_path, name):
    REFUSED[name](tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: is no colour picture of a stained smear.*8-bit RGB"):
        read_rgb(tmp_path / name)
    assert "no colour picture" in error_of(tmp_path / name)


def test_a_depth_that_is_not_declared_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(PICTURE.astype(np.uint16) * 16))
    assert "16 bits per sample" in error_of(tmp_path / "a.png")


def test_pixels_that_are_not_square_are_refused_with_both_lengths(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png", dpi=(25400 / 0.25, 25400 / 0.5))
    assert "0.25 um wide, 0.5 um high" in error_of(tmp_path / "a.png", None)
    with pytest.raises(InputError, match="not square"):
        read_rgb(tmp_path / "a.png")


MASKS = {
    "8.png": MASK,
    "16.png": MASK.astype(np.uint16) * 257,
    "shifted.png": MASK.astype(np.uint16),
    "32.tif": MASK.astype(np.int32),
    "fractions.tif": MASK.astype(np.float32) / 255,
    "whole.tif": MASK.astype(np.float32),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_any_depth_have_the_same_values(tmp_path, name):
    Image.fromarray(MASKS[name]).save(tmp_path / name)
    assert np.array_equal(read_grey(tmp_path / name), MASK)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGB", "RGBA"])
def test_masks_of_any_mode_contain_the_same_cells(tmp_path, mode):
    Image.fromarray(MASK).convert(mode).save(tmp_path / "mask.png")
    found = read_grey(tmp_path / "mask.png")
    assert np.array_equal(found >= 200, MASK >= 200) or mode == "1"
    assert np.array_equal(found[:40], MASK[:40])
    assert found.max() == 255


def test_transparent_pixels_of_a_mask_are_background(tmp_path):
    clear = np.dstack([np.full((*SHAPE, 3), 255, np.uint8), np.where(MASK > 0, 255, 0).astype(np.uint8)])
    Image.fromarray(clear).save(tmp_path / "mask.png")
    assert np.array_equal(read_grey(tmp_path / "mask.png") > 0, MASK > 0)


@pytest.mark.parametrize("threshold", [1, 2, 64, 128, 200, 255])
def test_thresholds_hold_at_any_depth(threshold):
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    limit = 1 if threshold == 1 else threshold * 257
    assert np.array_equal(mask_values(deep) >= threshold, deep >= limit)


def broken_header(path):
    """Cut the header of a PNG short, with its checksum put right."""
    body = b"IHDR" + bytes(4)
    header = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png()[33:])


def png():
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(path):
    """Claim 60000 x 60000 px."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(png()[:8] + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + png()[33:])


def endless_text(path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "a" * 80_000_000, zip=True)
    Image.fromarray(PICTURE).save(path, pnginfo=texts)


def flipped(path):
    rng = np.random.default_rng(1)
    data = np.frombuffer(png(), np.uint8).copy()
    data[rng.integers(8, len(data), 200)] ^= 0x55
    path.write_bytes(data.tobytes())


BROKEN = {
    "header.png": broken_header,
    "bomb.png": bomb,
    "text.png": endless_text,
    "flipped.png": flipped,
    "empty.png": lambda path: path.write_bytes(b""),
    "tables.tif": lambda path: path.write_bytes(b"II*\0\x08\0\0\0" + b"\xff\xff" + bytes(40)),
    "webp.png": lambda path: path.write_bytes(b"RIFF\0\0\0\0WEBPVP8 " + bytes(30)),
    "icon.png": lambda path: path.write_bytes(b"\0\0\1\0\1\0" + bytes(5)),
}


def test_a_broken_file_is_skipped_and_the_rest_continues(tmp_path):
    """A `ValueError` of Pillow ended the preparation of the whole folder."""
    folder = tmp_path / "lab"
    folder.mkdir()
    Image.fromarray(PICTURE).save(folder / "good.png")
    for name, write_it in BROKEN.items():
        write_it(folder / name)
    rows = [{"image": name, "mpp": 0.2, "label": "neutrophil"} for name in ("good.png", *BROKEN)]
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    catalog = ingest([Source("table", str(folder))], tmp_path / "catalog", IngestSpec())
    assert [sample.id for sample in catalog.samples] == ["lab/good"]
    reasons = {row["image"]: row["reason"] for row in catalog.quarantine.to_pylist()}
    assert {str(folder / name) for name in BROKEN} == set(reasons)
    assert all(image in reason and "again" in reason for image, reason in reasons.items())


@pytest.mark.parametrize("failure", [ValueError, AssertionError, RecursionError, struct.error, ZeroDivisionError])
@pytest.mark.parametrize("read_it", [read_rgb, read_grey])
def test_whatever_a_decoder_raises_is_the_files_fault(tmp_path, monkeypatch, read_it, failure):
    def fail(*_):
        raise failure("deep inside")

    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(InputError, match=r"a\.png: not a readable image \(deep inside\).*again"):
        read_it(tmp_path / "a.png")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError])
def test_errors_unrelated_to_the_file_pass_unchanged(tmp_path, monkeypatch, failure):
    def fail(*_):
        raise failure

    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(failure):
        read_rgb(tmp_path / "a.png")
