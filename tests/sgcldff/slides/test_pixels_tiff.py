"""Every way in which a TIFF stores a picture gives the same pixels, or one clear message."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from sgcldff.slides import open_slide
from sgcldff.slides.images import read_grey, read_rgb
from tests.sgcldff.pictures import DEEP, MPP, PER_CM, PICTURE, SHAPE, error_of, read, stored_as, with_alpha

TAGS = {"resolution": PER_CM, "resolutionunit": "CENTIMETER", "metadata": None}
TWELVE = ((PICTURE.astype(np.uint32) * 4095 + 127) // 255).astype(np.uint16)
SMALL = np.ascontiguousarray(PICTURE[::3, ::3])
MACRO = np.full((90, 200, 3), (10, 200, 10), np.uint8)
RGBA, ON_WHITE = with_alpha(PICTURE)
HALF = np.dstack([PICTURE, np.full(SHAPE, 128, np.uint8)])
HALF_PREMULTIPLIED = np.dstack([np.rint(PICTURE * (128 / 255)).astype(np.uint8), HALF[..., 3]])
PALE = Image.alpha_composite(Image.new("RGBA", SHAPE[::-1], "white"), Image.fromarray(HALF)).convert("RGB")
PALETTED = Image.fromarray(PICTURE).quantize(16)


def write(path, *pages, **settings):
    """Write pages, each an array or an array and its settings."""
    byteorder, bigtiff = settings.pop("byteorder", "<"), settings.pop("bigtiff", False)
    with tifffile.TiffWriter(path, byteorder=byteorder, bigtiff=bigtiff) as tiff:
        for page in pages:
            pixels, own = page if isinstance(page, tuple) else (page, {})
            tiff.write(pixels, **{"photometric": "rgb", **TAGS, **settings, **own})


def one(pixels=PICTURE, **settings):
    return lambda path: write(path, pixels, **settings)


def planes(path, names=(), order=(0, 1, 2), **attributes):
    """Write an OME-TIFF of a plane per channel."""
    channels = {"Name": list(names), **attributes} if names or attributes else None
    metadata = {"axes": "CYX", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP} | ({"Channel": channels} if channels else {})
    tifffile.imwrite(
        path, PICTURE.transpose(2, 0, 1)[list(order)], ome=True, photometric="minisblack", metadata=metadata
    )


def ome(path, *images):
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name, pixels in images:
            tiff.write(pixels, photometric="rgb", metadata={"Name": name, "axes": "YXS"})


def palette(path):
    colours = np.zeros((3, 256), np.uint16)
    listed = np.reshape(PALETTED.getpalette(), (-1, 3)).T
    colours[:, : listed.shape[1]] = listed * 257
    tifffile.imwrite(path, np.asarray(PALETTED), photometric="palette", colormap=colours, **TAGS)


def by_pillow(mode, **settings):
    return lambda path: Image.fromarray(PICTURE).convert(mode).save(path, **settings)


SAME = {
    "planar": one(PICTURE.transpose(2, 0, 1), planarconfig="separate"),
    "planar tiles": one(PICTURE.transpose(2, 0, 1), planarconfig="separate", tile=(64, 80)),
    "big-endian": one(byteorder=">", compression="lzw", predictor=2),
    "BigTIFF": one(bigtiff=True, tile=(64, 64)),
    "16 bits": one(DEEP),
    "16 bits, big-endian": one(DEEP, byteorder=">", tile=(64, 64)),
    "12 of 16 bits": one(TWELVE, extratags=[(281, "H", 3, (4095,) * 3, True)]),
    "opaque alpha": one(np.dstack([PICTURE, np.full(SHAPE, 255, np.uint8)]), extrasamples=["unassalpha"]),
    "sample of no meaning": one(np.dstack([PICTURE, np.zeros(SHAPE, np.uint8)]), extrasamples=["unspecified"]),
    "macro first": lambda path: write(path, (MACRO, {"description": "macro 200x90"}), PICTURE),
    "large macro first": lambda path: write(path, (np.tile(MACRO, (9, 5, 1)), {"description": "Macro image"}), PICTURE),
    "label of the same size": lambda path: write(path, (PICTURE[::-1], {"description": "label"}), PICTURE),
    "label that looks like a level": lambda path: write(path, PICTURE, (PICTURE[1::2, 1::2], {"description": "label"})),
    "thumbnail first": lambda path: write(path, (SMALL, {"subfiletype": 1}), PICTURE),
    "small picture first": lambda path: write(path, SMALL, PICTURE),
    "levels in any order": lambda path: write(
        path, (SMALL, {"subfiletype": 1}), (PICTURE, {}), (np.ascontiguousarray(PICTURE[::2, ::2]), {"subfiletype": 1})
    ),
    "OME planes by name": lambda path: planes(path, ("Red", "Green", "Blue")),
    "OME planes out of order": lambda path: planes(path, ("blue", "green", "red"), (2, 1, 0)),
    "OME planes without names": planes,
    "OME label first": lambda path: ome(path, ("label image", MACRO), ("slide", PICTURE)),
    "OME macro larger": lambda path: ome(path, ("macro", np.tile(MACRO, (9, 5, 1))), ("slide", PICTURE)),
    "OME of one focal plane": lambda path: tifffile.imwrite(
        path, PICTURE[None], ome=True, photometric="rgb", metadata={"axes": "ZYXS"}
    ),
}


def named(name):
    return f"{name.replace(' ', '_')}{'.ome' if name.startswith('OME') else ''}.tif"


@pytest.mark.parametrize("name", SAME)
def test_the_same_pixels_as_the_plain_picture(tmp_path, name):
    path = tmp_path / named(name)
    SAME[name](path)
    assert np.array_equal(read(path), PICTURE)
    assert np.array_equal(read_rgb(path), PICTURE), "training images keep the same contract"


LOOKS = {
    "palette": (palette, np.asarray(PALETTED.convert("RGB"))),
    "palette by Pillow": (lambda path: PALETTED.save(path), np.asarray(PALETTED.convert("RGB"))),
    "CMYK": (by_pillow("CMYK"), PICTURE),
    "YCbCr": (
        one(np.asarray(Image.fromarray(PICTURE).convert("YCbCr")), photometric="ycbcr", subsampling=(1, 1)),
        np.asarray(Image.fromarray(PICTURE).convert("YCbCr").convert("RGB")),
    ),
    "transparent": (one(RGBA, extrasamples=["unassalpha"]), ON_WHITE),
    "transparent, 16 bits": (one(RGBA.astype(np.uint16) * 257, extrasamples=["unassalpha"]), ON_WHITE),
    "transparent, premultiplied": (one(RGBA, extrasamples=["assocalpha"]), ON_WHITE),
    "half transparent": (one(HALF, extrasamples=["unassalpha"]), np.asarray(PALE)),
    "half transparent, premultiplied": (one(HALF_PREMULTIPLIED, extrasamples=["assocalpha"]), np.asarray(PALE)),
}


@pytest.mark.parametrize("name", LOOKS)
def test_pixels_are_as_a_viewer_shows_them(tmp_path, name):
    path = tmp_path / "slide.tif"
    write_it, shown = LOOKS[name]
    write_it(path)
    for seen in (read(path), read_rgb(path)):
        assert np.abs(seen.astype(int) - shown).max() <= (1 if "half" in name else 0)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_slide_stands_upright(tmp_path, orientation, tiled):
    path = tmp_path / "turned.tif"
    levels = [PICTURE, PICTURE[::2, ::2]]
    tags = {"extratags": [(274, "H", 1, orientation, True)]} | ({"tile": (64, 80)} if tiled else {})
    pages = [(stored_as(level, orientation), {"subfiletype": min(at, 1)}) for at, level in enumerate(levels)]
    write(path, *pages, **tags)
    for level, picture in enumerate(levels):
        assert np.array_equal(read(path, level=level), picture)
    assert open_slide(path).ref.orientation == orientation
    assert np.array_equal(read_rgb(path), PICTURE)


THREE = np.stack([PICTURE, PICTURE[::-1], PICTURE[:, ::-1]])
STACKS = {
    "pages": lambda path: write(path, *THREE),
    "shaped": lambda path: tifffile.imwrite(path, THREE, photometric="rgb"),
    "times": lambda path: tifffile.imwrite(path, THREE, photometric="rgb", ome=True, metadata={"axes": "TYXS"}),
    "scenes": lambda path: ome(path, *zip(("left", "right", "third"), THREE, strict=True)),
}


@pytest.mark.parametrize("name", STACKS)
def test_one_of_several_pages_has_to_be_named(tmp_path, name):
    path = tmp_path / f"{name}{'.ome' if name in ('times', 'scenes') else ''}.tif"
    STACKS[name](path)
    message = error_of(path)
    assert "contains 3 pictures" in message
    assert "--page" in message
    assert str(SHAPE[0]) in message
    for page, picture in enumerate(THREE, 1):
        assert np.array_equal(read(f"{path}#page={page}"), picture)
    assert "give 1 to 3" in error_of(path.with_name(f"{path.name}#page=4"))
    ids = {open_slide(f"{path}#page={page}", MPP).ref.sha256 for page in (1, 2, 3)}
    assert len(ids) == 3, "results of one page would be taken for those of another"


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_one_of_several_focal_planes_has_to_be_named(tmp_path, kind):
    path = tmp_path / ("z.ome.tif" if kind == "ome" else "z.tif")
    tifffile.imwrite(path, THREE, photometric="rgb", **{kind: True}, metadata={"axes": "ZYXS"})
    assert "3 focal planes (axis z)" in error_of(path)
    assert np.array_equal(read(f"{path}#z=2"), PICTURE[::-1])


def test_a_stack_of_three_planes_is_no_colour_picture(tmp_path):
    """Three grey focal planes were red, green and blue, since there are three."""
    tifffile.imwrite(
        tmp_path / "z.ome.tif", PICTURE.transpose(2, 0, 1), photometric="minisblack", ome=True, metadata={"axes": "ZYX"}
    )
    assert "3 focal planes" in error_of(tmp_path / "z.ome.tif")
    assert "no colour picture of a stained smear" in error_of(tmp_path / "z.ome.tif#z=1")


DARK = (PICTURE // 12).transpose(2, 0, 1)
REFUSED = {
    "grey": (one(PICTURE[..., 0], photometric="minisblack"), "no colour picture.*8-bit RGB"),
    "grey, white is 0": (one(PICTURE[..., 0], photometric="miniswhite"), "no colour picture"),
    "1 bit": (one(PICTURE[..., 0] > 200, photometric="minisblack"), "no colour picture"),
    "grey palette": (lambda path: Image.fromarray(PICTURE).convert("L").quantize(9).save(path), "no colour picture"),
    "float": (one(PICTURE.astype(np.float32)), "float32.*8-bit RGB"),
    "three grey samples": (one(photometric="minisblack", planarconfig="contig"), "no colour picture"),
    "12 of 16 bits, not said": (one(PICTURE.astype(np.uint16) * 16), "no value is above .* of 65535"),
    "OME dyes": (lambda path: planes(path, ("DAPI", "FITC", "TRITC")), "DAPI, FITC, TRITC.*no brightfield"),
    "OME emissions": (lambda path: planes(path, ("a", "b", "c"), EmissionWavelength=[460, 520, 580]), "no brightfield"),
    "OME dark planes": (
        lambda path: tifffile.imwrite(path, DARK, ome=True, photometric="minisblack", metadata={"axes": "CYX"}),
        "dark ground",
    ),
    "OME label alone": (lambda path: ome(path, ("label", PICTURE)), "contains no slide, only a label"),
    "CIELab": (one(photometric="cielab"), "no colour picture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_without_a_stained_smear_are_refused(tmp_path, name):
    write_it, message = REFUSED[name]
    write_it(tmp_path / named(name))
    with pytest.raises(ValueError, match=f"(?s){named(name)}.*{message}"):
        read_rgb(tmp_path / named(name))
    error_of(tmp_path / named(name))


def test_pixels_that_are_not_square_are_refused_with_both_lengths(tmp_path):
    write(tmp_path / "a.tif", PICTURE, resolution=(4e4, 2e4))
    assert "0.25 um wide, 0.5 um high" in error_of(tmp_path / "a.tif", None)
    assert "not square" in error_of(tmp_path / "a.tif"), "one number for both sides would be wrong as well"
    sizes = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "b.ome.tif", PICTURE, photometric="rgb", ome=True, metadata=sizes)
    assert "0.25 um wide, 0.5 um high" in error_of(tmp_path / "b.ome.tif", None)
    write(tmp_path / "c.tif", PICTURE, resolution=(1e4 / 0.25, 1e4 / 0.252))
    assert open_slide(tmp_path / "c.tif").ref.mpp == pytest.approx((0.25 * 0.252) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("size", "unit"),
    [(2500, "Å"), (2.5e-6, "dm"), (0.25 / 25400, "in"), (0.25, "micron"), (0.25, "µm"), (2.5e-4, "mm")],
)
def test_units_of_length_are_understood(tmp_path, size, unit):
    sizes = {f"PhysicalSize{axis}": size for axis in "XY"} | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    tifffile.imwrite(tmp_path / "a.ome.tif", PICTURE, photometric="rgb", ome=True, metadata={"axes": "YXS", **sizes})
    assert open_slide(tmp_path / "a.ome.tif").ref.mpp == pytest.approx(0.25, rel=1e-3)


def test_levels_of_another_aspect_are_none(tmp_path):
    odd = (np.ascontiguousarray(PICTURE[::3, ::2]), {"subfiletype": 1})
    write(tmp_path / "a.tif", PICTURE, odd, (np.ascontiguousarray(PICTURE[::5, ::5]), {"subfiletype": 1}))
    slide = open_slide(tmp_path / "a.tif")
    assert slide.shapes == (SHAPE, (46, 62))
    assert slide.downsamples == (1.0, 5.0)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("deep", [False, True])
def test_masks_keep_the_contract(tmp_path, orientation, deep):
    mask = np.zeros(SHAPE, np.uint8)
    mask[40:90, 60:200], mask[50:70, 80:120] = 128, 255
    pixels = stored_as(mask.astype(np.uint16) * 257 if deep else mask, orientation)
    write(tmp_path / "m.tif", pixels, photometric="minisblack", extratags=[(274, "H", 1, orientation, True)])
    assert np.array_equal(read_grey(tmp_path / "m.tif"), mask)
    write(tmp_path / "two.tif", mask, mask[::-1], photometric="minisblack")
    with pytest.raises(ValueError, match="contains 2 pictures"):
        read_grey(tmp_path / "two.tif")
    write(tmp_path / "bits.tif", mask > 0, photometric="minisblack")
    assert np.array_equal(read_grey(tmp_path / "bits.tif"), 255 * (mask > 0))
