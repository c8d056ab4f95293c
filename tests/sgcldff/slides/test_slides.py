import json
import os
import pickle
import shutil
import threading
from contextlib import closing

import cv2
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from sgcldff.core.errors import InputError, MissingInputError, SlideError
from sgcldff.core.geometry import Box
from sgcldff.slides import open_slide, reopen
from tests.sgcldff.slides.stored import LEVELS, MPP, PICTURE, SHAPE, TAGS, write_tiff


def write_ome(path, levels=LEVELS, size=MPP, unit="µm"):
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for at, level in enumerate(levels):
            place = {"subfiletype": 1} if at else {"subifds": len(levels) - 1, "metadata": metadata}
            tiff.write(level, photometric="rgb", tile=(128, 128), compression="zlib", **place)


def write_ngff(path, levels=LEVELS, axes="cyx", version="0.5", scale=MPP, unit="micrometer"):
    root = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    kinds = {"c": {"type": "channel"}, "y": {"type": "space", "unit": unit}, "x": {"type": "space", "unit": unit}}
    datasets = []
    for at, level in enumerate(levels):
        array = level.transpose(["yxc".index(name) for name in axes])
        root.create_array(f"s{at}", data=array, chunks=tuple(min(side, 100) for side in array.shape))
        steps = [1.0 if name == "c" else scale * 2**at for name in axes]
        datasets.append({"path": f"s{at}", "coordinateTransformations": [{"type": "scale", "scale": steps}]})
    image = {"axes": [{"name": name, **kinds[name]} for name in axes], "datasets": datasets}
    root.attrs.update(
        {"ome": {"version": version, "multiscales": [image]}} if version == "0.5" else {"multiscales": [image]}
    )


def write_bioformats_folder(path):
    zarr.open_group(path, mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    write_ngff(path / "0", version="0.4")


WRITERS = {
    "tiled.tif": write_tiff,
    "strips.tif": lambda path: write_tiff(path, LEVELS[:1], tile=None, rowsperstrip=33),
    "one_strip.tif": lambda path: write_tiff(path, LEVELS[:1], tile=None, compression=None),
    "big_endian.tif": lambda path: write_tiff(path, LEVELS, byteorder=">", compression="lzw"),
    "image.ome.tif": write_ome,
    "v5.ome.zarr": write_ngff,
    "v4.zarr": lambda path: write_ngff(path, version="0.4"),
    "yxc.zarr": lambda path: write_ngff(path, axes="yxc"),
    "bioformats.zarr": write_bioformats_folder,
    "plain.png": lambda path: Image.fromarray(PICTURE).save(path, dpi=(25400 / MPP,) * 2),
    "plain.bmp": lambda path: Image.fromarray(PICTURE).save(path),
}
SILENT = ("plain.bmp",)
"""Formats whose metadata carry no usable scale."""


def opened(folder, name):
    path = folder / name
    WRITERS[name](path)
    return open_slide(path, MPP if name in SILENT else None)


@pytest.fixture(params=WRITERS)
def slide(request, tmp_path):
    with_scale = opened(tmp_path, request.param)
    yield with_scale
    with_scale.close()


def test_every_format_gives_its_pixels_and_scale(slide):
    assert slide.ref.mpp == pytest.approx(MPP, rel=1e-3)
    assert slide.ref.shape == SHAPE
    assert len(slide.downsamples) == slide.ref.levels == len(slide.shapes)
    assert slide.downsamples == (1.0, 2.0, 4.0)[: slide.ref.levels]
    for level, picture in enumerate(LEVELS[: slide.ref.levels]):
        assert slide.shapes[level] == picture.shape[:2]
        for box in (Box.of(slide.shapes[level]), Box(3, 5, 131, 77), Box(120, 0, 121, 1)):
            assert np.array_equal(slide.read(box, level), picture[box.slices])


def test_outside_is_white(slide):
    padded = np.pad(PICTURE, ((40, 40), (40, 40), (0, 0)), constant_values=255)
    for box in (Box(-40, -40, 20, 30), Box(690, 500, 740, 563), Box(-40, -40, 740, 563)):
        assert np.array_equal(slide.read(box, 0), padded[box.shift(40, 40).slices])
    assert (slide.read(Box(5000, 5000, 5010, 5020), 0) == 255).all()


def test_a_pickled_handle_opens_the_same_slide(slide):
    data = pickle.dumps(slide)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.ref == slide.ref
    assert np.array_equal(again.read(Box(0, 0, 50, 50), 0), slide.read(Box(0, 0, 50, 50), 0))
    again.close()


def test_threads_may_share_a_handle(slide):
    boxes = [Box(y, x, y + 200, x + 200) for y in (0, 200, 400) for x in (0, 150, 300)]
    seen = {}
    threads = [threading.Thread(target=lambda b=box: seen.update({b: slide.read(b, 0)})) for box in boxes * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(seen[box], PICTURE[box.slices]) for box in boxes)


def test_planes_of_their_own_and_jpeg_tiles_are_rgb(tmp_path):
    tifffile.imwrite(
        tmp_path / "separate.tif",
        PICTURE.transpose(2, 0, 1),
        photometric="rgb",
        planarconfig="separate",
        tile=(128, 128),
        **TAGS,
    )
    box = Box(100, 90, 300, 400)
    assert np.array_equal(open_slide(tmp_path / "separate.tif").read(box, 0), PICTURE[box.slices])
    smooth = cv2.GaussianBlur(PICTURE, (0, 0), 4)
    write_tiff(tmp_path / "jpeg.tif", (smooth,), compression="jpeg", compressionargs={"level": 95})
    read = open_slide(tmp_path / "jpeg.tif").read(box, 0)
    assert np.abs(read.astype(int) - smooth[box.slices]).mean() < 3


def test_openslide_reads_scanner_formats(tmp_path):
    smooth = cv2.GaussianBlur(PICTURE, (0, 0), 4)
    options = {"compression": "jpeg", "compressionargs": {"level": 95}, "tile": (128, 128), "metadata": None}
    text = "Aperio Image Library v11.2.1\r\n523x700 (128x128) JPEG/RGB Q=95|AppMag = 40|MPP = 0.2511"
    tifffile.imwrite(tmp_path / "scan.svs", smooth, photometric="rgb", description=text, **options)
    slide = open_slide(tmp_path / "scan.svs")
    assert (slide.ref.id, slide.ref.mpp, slide.ref.shape) == ("scan", 0.2511, SHAPE)
    box = Box(-10, 400, 60, 530)
    read = slide.read(box, 0)
    assert (read[:10] == 255).all()
    assert (read[:, 523 - 400 :] == 255).all()
    assert np.abs(read[10:, :100].astype(int) - smooth[:60, 400:500]).mean() < 3
    assert np.array_equal(pickle.loads(pickle.dumps(slide)).read(box, 0), read)


@pytest.mark.parametrize(("size", "unit"), [(250, "nm"), (0.25, "µm"), (0.00025, "mm")])
def test_ome_sizes_are_converted_to_microns(tmp_path, size, unit):
    write_ome(tmp_path / "x.ome.tif", size=size, unit=unit)
    assert open_slide(tmp_path / "x.ome.tif").ref.mpp == pytest.approx(0.25)


def test_ngff_units_and_inches_are_converted(tmp_path):
    write_ngff(tmp_path / "a.zarr", scale=250.0, unit="nanometer")
    assert open_slide(tmp_path / "a.zarr").ref.mpp == pytest.approx(0.25)
    write_tiff(tmp_path / "a.tif", resolution=(25400 / 0.4,) * 2, resolutionunit="INCH")
    assert open_slide(tmp_path / "a.tif").ref.mpp == pytest.approx(0.4, rel=1e-4)


def test_a_given_mpp_overrides_the_metadata(tmp_path):
    write_tiff(tmp_path / "a.tif")
    assert open_slide(tmp_path / "a.tif", mpp=0.1).ref.mpp == 0.1
    assert pickle.loads(pickle.dumps(open_slide(tmp_path / "a.tif", mpp=0.1))).ref.mpp == 0.1
    with pytest.raises(InputError, match=r"mpp is -1"):
        open_slide(tmp_path / "a.tif", mpp=-1)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("untold.tif", lambda path: write_tiff(path, resolution=(1, 1), resolutionunit="NONE")),
        ("screen.tif", lambda path: write_tiff(path, resolution=(72, 72), resolutionunit="INCH")),
        ("screen.png", lambda path: Image.fromarray(PICTURE).save(path, dpi=(96, 96))),
        ("pixel.ome.tif", lambda path: write_ome(path, size=1.0, unit="pixel")),
        ("unitless.zarr", lambda path: write_ngff(path, unit=None)),
    ],
)
def test_without_a_scale_the_file_is_named_and_mpp_asked_for(tmp_path, name, write):
    write(tmp_path / name)
    with pytest.raises(SlideError, match=rf"{name}.*--mpp"):
        open_slide(tmp_path / name)
    assert open_slide(tmp_path / name, mpp=0.3).ref.mpp == 0.3


def truncated(path):
    write_tiff(path.with_name("whole.tif"))
    data = path.with_name("whole.tif").read_bytes()
    path.write_bytes(data[: len(data) // 2])


def truncated_strips(path):
    """The tables stand at the front, so only the pixels' end is lost."""
    tifffile.imwrite(path, PICTURE, photometric="rgb", **TAGS)
    path.write_bytes(path.read_bytes()[:-1000])


def truncated_scan(path):
    text = "Aperio Image Library v11.2.1\r\n|MPP = 0.2511"
    tifffile.imwrite(path, PICTURE, photometric="rgb", tile=(128, 128), description=text)
    path.write_bytes(path.read_bytes()[:-1000])


def zarr_without_image(path):
    zarr.open_group(path, mode="w")


def deep(path):
    tifffile.imwrite(path, PICTURE.astype(np.uint16), photometric="rgb", **TAGS)


def one_piece(path):
    """A TIFF that claims one strip of more pixels than memory can hold."""
    tifffile.imwrite(path, PICTURE, photometric="rgb", compression="deflate", rowsperstrip=len(PICTURE), **TAGS)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tiff.pages[0].tags[tag].overwrite(2**15)


def wide(path):
    """A TIFF whose width no glass has."""
    tifffile.imwrite(path, PICTURE, photometric="rgb", tile=(128, 128), **TAGS)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(2**31 - 1)


def one_chunk(path):
    write_ngff(path)
    shape = (3, 10**5, 10**5)
    first, *_ = zarr.open_group(path).arrays()
    zarr.open_group(path).create_array(first[0], shape=shape, dtype="u1", chunks=shape, overwrite=True)


def endless(path):
    write_ngff(path)
    chunk = next(file for file in path.rglob("*") if file.name.isdecimal() and file.is_file())
    chunk.unlink()
    chunk.symlink_to("/dev/zero")


BAD = {
    "one_piece.tif": (one_piece, "stored in one piece"),
    "wide.tif": (wide, "more than the 20 cm of a slide|again"),
    "one_chunk.zarr": (one_chunk, "stored in one piece"),
    "endless.zarr": (endless, "a pipe or a device"),
    "pipe.png": (os.mkfifo, "a pipe or a device"),
    "garbage.svs": (lambda path: path.write_bytes(b"not a slide" * 50), "no reader opens it.*OME-Zarr"),
    "garbage.tif": (lambda path: path.write_bytes(b"II*\0" + b"\xff" * 90), "again"),
    "empty.ndpi": (lambda path: path.write_bytes(b""), "empty"),
    "half.tif": (truncated, "again"),
    "cut.tif": (truncated_strips, "truncated.*again"),
    "cut.svs": (truncated_scan, "truncated.*again"),
    "half.png": (lambda path: path.write_bytes(png()[:2000]), "no reader opens it"),
    "folder": (lambda path: path.mkdir(), "without Zarr metadata"),
    "no_image.zarr": (zarr_without_image, "multiscales"),
    "broken.zarr": (lambda path: (path.mkdir(), (path / "zarr.json").write_text("{")), "no reader opens it.*OME-Zarr"),
    "grey.tif": (lambda path: tifffile.imwrite(path, PICTURE[..., 0], **TAGS), "8-bit RGB"),
    "deep.tif": (deep, "uint16.*8-bit RGB"),
    "grey.zarr": (lambda path: write_ngff(path, (PICTURE[..., :1],)), "c 1.*8-bit RGB"),
}


def png():
    return cv2.imencode(".png", PICTURE)[1].tobytes()


@pytest.mark.parametrize("name", BAD)
def test_bad_slides_are_named_with_a_remedy(tmp_path, name):
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(SlideError, match=rf"(?s){name}.*{message}"):
        open_slide(tmp_path / name, mpp=0.25)


def test_a_missing_slide_is_a_missing_file(tmp_path):
    with pytest.raises(MissingInputError, match=r"nothing\.svs"):
        open_slide(tmp_path / "nothing.svs")


def test_damage_inside_is_reported_where_it_is_read(tmp_path):
    write_tiff(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        start, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[start : start + count] = bytes(count)
    (tmp_path / "a.tif").write_bytes(data)
    slide = open_slide(tmp_path / "a.tif")
    assert np.array_equal(slide.read(Box(300, 300, 400, 400), 0), PICTURE[300:400, 300:400])
    with pytest.raises(SlideError, match=r"a\.tif: level 0, Box\(y0=0"):
        slide.read(Box(0, 0, 10, 10), 0)


def test_a_damaged_zarr_chunk_is_reported(tmp_path):
    write_ngff(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/s0/c/0/0/0").write_bytes(b"damage")
    with pytest.raises(SlideError, match=r"a\.zarr: level 0"):
        open_slide(tmp_path / "a.zarr").read(Box(0, 0, 10, 10), 0)


def test_the_hash_follows_the_content_not_the_path(tmp_path):
    write_ngff(tmp_path / "a.zarr")
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.ome.zarr")
    first, second = (open_slide(tmp_path / name).ref for name in ("a.zarr", "b.ome.zarr"))
    assert first.sha256 == second.sha256
    assert (first.id, second.id) == ("a", "b")
    changed = zarr.open_array(tmp_path / "b.ome.zarr/s0", mode="r+")
    changed[0, 0, 0] = np.uint8(255 - PICTURE[0, 0, 0])
    assert open_slide(tmp_path / "b.ome.zarr").ref.sha256 != first.sha256


def test_a_slide_that_changed_size_is_not_read_on(tmp_path):
    write_tiff(tmp_path / "a.tif")
    ref = open_slide(tmp_path / "a.tif").ref
    write_tiff(tmp_path / "a.tif", (PICTURE[:300],))
    with pytest.raises(SlideError, match="changed while it was read"):
        reopen(ref)


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize(
    "array",
    [
        {"filters": [{"id": "pickle", "protocol": 5}]},
        {"compressor": {"id": "pickle", "protocol": 5}},
        {"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}], "fill_value": None},
        {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}], "fill_value": ""},
        {"filters": [{"id": "delta", "dtype": "|u1"}, {"id": "pickle", "protocol": 5}]},
    ],
    ids=["filter", "compressor", "objects", "second filter", "behind another"],
)
def test_a_zarr_slide_cannot_run_code(tmp_path, array):
    """Zarr v2 lets an array name the codec that unpickles its chunks."""
    slide, mark = tmp_path / "evil.zarr", tmp_path / "ran"
    axes = [{"name": "c"}, *({"name": name, "unit": "micrometer"} for name in "yx")]
    scale = {"type": "scale", "scale": [1, 0.25, 0.25]}
    levels = [{"path": "0", "coordinateTransformations": [scale]}]
    declared = {"zarr_format": 2, "shape": [3, 64, 64], "chunks": [3, 64, 64], "dtype": "|u1", "order": "C"}
    declared |= {"compressor": None, "filters": None, "fill_value": 0, "dimension_separator": "."}
    (slide / "0").mkdir(parents=True)
    (slide / ".zgroup").write_text('{"zarr_format": 2}')
    (slide / ".zattrs").write_text(json.dumps({"multiscales": [{"axes": axes, "datasets": levels}]}))
    (slide / "0" / ".zarray").write_text(json.dumps(declared | array))
    (slide / "0" / "0.0.0").write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(SlideError), closing(open_slide(slide)) as opened:
        opened.read(Box(0, 0, 64, 64), 0)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists(), "the attack itself does not work: the test looks at nothing"
