"""Scanners' formats keep the contract of all slides, and every reader leads to the same cells."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from sgcldff.inference import read_cells
from sgcldff.slides import find_slides, open_slide
from tests.sgcldff.inference import test_inference as stub
from tests.sgcldff.pictures import MPP, PICTURE, SHAPE, error_of, read, stored_as
from tests.sgcldff.slides.test_pixels_zarr import write as write_zarr

TEXT = "Aperio Image Library v11.2.1\r\n310x230 (64x64) |AppMag = 40|MPP = {mpp}"
TILES = {"tile": (64, 64), "compression": "zlib", "metadata": None}


def aperio(path, pixels=PICTURE, mpp=MPP, macro=None, **settings):
    """Write a slide as Aperio's scanners do, but without loss."""
    with tifffile.TiffWriter(path) as tiff:
        main = {"photometric": "rgb", "description": TEXT.format(mpp=mpp), **TILES} | settings
        tiff.write(pixels, **main)
        if macro is not None:
            for name in ("label", "macro"):
                description = f"Aperio Image Library v11.2.1\r\n{name} 90x60"
                strips = {"photometric": "rgb", "metadata": None, "rowsperstrip": 60, "compression": "lzw"}
                tiff.write(macro, subfiletype=1 if name == "label" else 9, description=description, **strips)


def test_a_scanners_slide_is_the_plain_picture_without_label_and_macro(tmp_path):
    aperio(tmp_path / "a.svs", macro=np.zeros((60, 90, 3), np.uint8))
    assert np.array_equal(read(tmp_path / "a.svs", None), PICTURE)
    assert open_slide(tmp_path / "a.svs").shapes == (SHAPE,)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_scan_that_is_stored_turned_is_refused(tmp_path, orientation):
    """OpenSlide has libtiff decode the tiles, which turns each in its place."""
    aperio(tmp_path / "a.svs", stored_as(PICTURE, orientation), extratags=[(274, "H", 1, orientation, True)])
    assert f"stored turned (orientation {orientation})" in error_of(tmp_path / "a.svs")


def test_a_grey_scan_is_no_stained_smear(tmp_path):
    aperio(tmp_path / "a.svs", PICTURE[..., 0], photometric="minisblack")
    assert "is grey" in error_of(tmp_path / "a.svs")


def test_pixels_that_are_not_square_are_refused_with_both_lengths(tmp_path, monkeypatch):
    """OpenSlide gives both lengths for some formats; of those that a test can write, only one."""
    import openslide

    class Oblong(openslide.OpenSlide):
        @property
        def properties(self):
            return dict(super().properties) | {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5"}

    aperio(tmp_path / "a.svs")
    monkeypatch.setattr("sgcldff.slides.readers.openslide.OpenSlide", Oblong)
    assert "0.25 um wide, 0.5 um high" in error_of(tmp_path / "a.svs", None)


def test_a_missing_page_is_an_error(tmp_path):
    aperio(tmp_path / "a.svs")
    assert "page 2 was selected, but it has 1" in error_of(tmp_path / "a.svs#page=2")
    assert np.array_equal(read(f"{tmp_path / 'a.svs'}#page=1"), PICTURE)


FIELD = stub.paint((300, 260), [(60, 60), (150, 128), (235, 190), (200, 40)])
"""Seen by the stub of a network that tells cells by their colours."""


def photo(path, orientation=8):
    """As a phone writes it, with transparent paper."""
    clear = np.where((FIELD == stub.PAPER).all(axis=-1), 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored_as(np.dstack([FIELD, clear]), orientation)).save(path, exif=exif)


def stack(path):
    turned = (274, "H", 1, 5, True)
    other = np.ascontiguousarray(stored_as(FIELD, 5)[::-1])
    with tifffile.TiffWriter(path) as tiff:
        for pixels in (other, stored_as(FIELD, 5)):
            deep = (pixels.astype(np.uint16) * 257).transpose(2, 0, 1)
            tiff.write(deep, photometric="rgb", planarconfig="separate", metadata=None, extratags=[turned])


def packed(path):
    blue_first = np.ascontiguousarray(FIELD[..., ::-1])
    write_zarr(path.with_name("folder"), blue_first, axes="tczyx", names=("blue", "green", "red"), scale=stub.MPP)
    shutil.make_archive(path.with_name("packed"), "zip", path.with_name("folder"))
    path.with_name("packed.zip").rename(path)


READERS = {
    "photo.png": photo,
    "stack.tif#page=2": stack,
    "image.zarr.zip": packed,
    "scan.svs": lambda path: aperio(path, FIELD, mpp=stub.MPP, macro=FIELD[:60, :90]),
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_leads_to_the_same_cells(tmp_path, name):
    READERS[name](tmp_path / name.partition("#")[0])
    (entry,) = find_slides([str(tmp_path / name)], stub.MPP)
    plan = stub.inferred(open_slide(entry.uri, entry.mpp, entry.id), tmp_path / "out")
    whole = stub.of_whole(FIELD)
    assert len(whole) == 4
    assert stub.facts(read_cells(plan)) == whole


def test_a_list_names_pages_and_focal_planes(tmp_path):
    stack(tmp_path / "stack.tif")
    (tmp_path / "list.csv").write_text("slide,mpp,page\nstack.tif,0.2,1\nstack.tif,0.2,2\n")
    first, second = find_slides([str(tmp_path / "list.csv")])
    assert (first.id, second.id) == ("stack-page1", "stack-page2")
    assert np.array_equal(read(second.uri), FIELD)
    assert not np.array_equal(read(first.uri), FIELD)
    (tmp_path / "list.csv").write_text("slide,page\nstack.tif,zero\n")
    with pytest.raises(ValueError, match="row 1: page is 'zero'"):
        find_slides([str(tmp_path / "list.csv")])


def test_results_of_a_page_are_known_as_its_own(tmp_path):
    from sgcldff.results.batch import known_sha256, write_origin

    stack(tmp_path / "stack.tif")
    uris = [f"{tmp_path / 'stack.tif'}#page={page}" for page in (1, 2)]
    write_origin(tmp_path / "out", uris[0], open_slide(uris[0], MPP).ref.sha256)
    assert known_sha256(tmp_path / "out", uris[0]) == open_slide(uris[0], MPP).ref.sha256
    assert known_sha256(tmp_path / "out", uris[1]) is None
    assert json.loads((tmp_path / "out/origin.json").read_text())["state"]
