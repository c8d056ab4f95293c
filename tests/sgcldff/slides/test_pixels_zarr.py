"""Every way in which a Zarr stores a picture gives the same pixels, or one clear message."""

import shutil
from contextlib import closing

import numpy as np
import pytest
import zarr

from sgcldff.slides import find_slides, open_slide
from tests.sgcldff.pictures import DEEP, MPP, PICTURE, SHAPE, error_of, read, with_alpha

RGBA, ON_WHITE = with_alpha(PICTURE)
KINDS = {"c": "channel", "t": "time", "y": "space", "x": "space", "z": "space"}


def write(path, pixels=PICTURE, axes="cyx", names=(), colours=(), unit="micrometer", scale=MPP, version="0.4", **more):
    """Write an image whose array has `axes`; `pixels` are (y, x, c), or as `axes` say if they have another rank."""
    root = zarr.open_group(path, mode="w", zarr_format=2 if version < "0.5" else 3)
    array = pixels.transpose(["yxc".index(name) for name in axes if name in "yxc"]) if pixels.ndim == 3 else pixels
    if pixels.ndim == 3:
        array = array.reshape([dict(zip("yxc", pixels.shape, strict=True)).get(name, 1) for name in axes])
    scales = {"y": scale, "x": scale} | more.get("scales", {})
    datasets = []
    for at, step in enumerate(more.get("steps", (1, 2))):
        index = tuple(slice(None, None, step) if name in "yx" else slice(None) for name in axes)
        root.create_array(f"s{at}", data=np.ascontiguousarray(array[index]), chunks=(*array.shape[:-2], 64, 64))
        scale = [scales.get(name, 1.0) * (step if name in "yx" else 1) for name in axes]
        datasets.append({"path": f"s{at}", "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    listed = [{"name": name, "type": KINDS[name]} | ({"unit": unit} if name in "yxz" and unit else {}) for name in axes]
    image = {"version": version, "axes": listed, "datasets": datasets, "name": more.get("name", "")}
    attributes = {"multiscales": [image]}
    if names or colours:
        rows = zip(names or [""] * len(colours), colours or [""] * len(names), strict=True)
        attributes["omero"] = {"channels": [{"label": name, "color": colour} for name, colour in rows]}
    root.attrs.update({"ome": attributes} if version >= "0.5" else attributes)


def one(**settings):
    return lambda path: write(path, **settings)


def edited(change, **settings):
    """Write an image whose metadata are then changed."""

    def write_it(path):
        write(path, **settings)
        group = zarr.open_group(path, mode="r+")
        attributes = group.attrs.asdict()
        change(attributes.get("ome", attributes)["multiscales"][0])
        group.attrs.put(attributes)

    return write_it


def unscaled(image):
    for level in image["datasets"]:
        level.pop("coordinateTransformations")


def unnamed_axes(image):
    unscaled(image)
    image.pop("axes")


def several(*images, name=None):
    """Write images as bioformats2raw does, one numbered group each."""

    def write_it(path):
        zarr.open_group(path, mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
        for at, (title, pixels) in enumerate(images):
            write(path / str(at), pixels, name=title)

    return write_it


def zipped(suffix, inside=False, **settings):
    def write_it(path):
        folder = path.with_name("packed") / "image.zarr"
        write(folder, **settings)
        shutil.make_archive(path.with_name("archive"), "zip", folder.parent if inside else folder)
        path.with_name("archive.zip").rename(path)

    return write_it


def in_systems(image):
    """Change metadata to those of NGFF 0.6: named coordinate systems, of which the last is another one."""
    own = {"name": "physical", "axes": image.pop("axes")}
    other = {"name": "stage", "axes": [{"name": name, "type": "space", "unit": "meter"} for name in "xyz"]}
    image["coordinateSystems"] = [own, other]
    image["coordinateTransformations"] = [
        {"type": "scale", "scale": [7.0] * 3, "input": {"name": "physical"}, "output": {"name": "stage"}}
    ]
    for at, dataset in enumerate(image["datasets"]):
        (scale,) = dataset["coordinateTransformations"]
        moved = {"type": "translation", "translation": [0.0, 0.1, 0.1]}
        step = {"type": "sequence", "transformations": [scale, moved]} if at else scale
        places = {"input": {"path": dataset["path"]}, "output": {"name": "physical"}}
        dataset["coordinateTransformations"] = [step | places]


BGR = np.ascontiguousarray(PICTURE[..., ::-1])
MACRO = np.full((700, 900, 3), (10, 200, 10), np.uint8)
SAME = {
    "v5.zarr": one(version="0.5"),
    "v6.zarr": edited(in_systems, version="0.6"),
    "yxc.zarr": one(axes="yxc"),
    "tczyx.zarr": one(axes="tczyx"),
    "no_names.zarr": one(names=("Channel 0", "Channel 1", "Channel 2")),
    "bgr_names.zarr": one(pixels=BGR, names=("blue", "Green", "RED")),
    "bgr_colours.zarr": one(pixels=BGR, colours=("0000FF", "00FF00", "FF0000")),
    "deep.zarr": one(pixels=DEEP),
    "big_endian.zarr": one(pixels=DEEP.astype(">u2")),
    "transparent.zarr": one(pixels=RGBA, names=("R", "G", "B", "alpha")),
    "levels_in_any_order.zarr": one(steps=(4, 1, 2)),
    "not_halving.zarr": one(steps=(1, 3, 5)),
    "scaleless.zarr": edited(unscaled),
    "oldest.zarr": edited(unnamed_axes, axes="tczyx"),
    "named_axes.zarr": edited(lambda image: image.update(axes=["c", "y", "x"])),
    "label_first.zarr": several(("label", MACRO), ("slide", PICTURE)),
    "macro_last.zarr": several(("slide", PICTURE), ("macro image", MACRO)),
    "packed.zarr.zip": zipped(".zarr.zip"),
    "packed.ozx": zipped(".ozx", version="0.5"),
    "packed_folder.zarr.zip": zipped(".zarr.zip", inside=True),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_pixels_as_the_plain_picture(tmp_path, name):
    SAME[name](tmp_path / name)
    assert np.array_equal(read(tmp_path / name), ON_WHITE if name == "transparent.zarr" else PICTURE)


DARK = np.ascontiguousarray(PICTURE // 12)
REFUSED = {
    "grey.zarr": (one(pixels=PICTURE[..., :1]), "c 1.*8-bit RGB"),
    "no_channels.zarr": (one(pixels=PICTURE[..., 0], axes="yx"), "no colour picture"),
    "float.zarr": (one(pixels=PICTURE.astype(np.float32)), "float32.*8-bit RGB"),
    "dyes.zarr": (one(names=("DAPI", "FITC", "TRITC")), "DAPI, FITC, TRITC.*no brightfield"),
    "dark.zarr": (one(pixels=DARK), "dark ground"),
    "four.zarr": (one(pixels=RGBA), "unnamed, unnamed.*no brightfield"),
    "two_scenes.zarr": (several(("a", PICTURE), ("b", PICTURE[::-1])), "contains 2 pictures.*'a', 310 x 230"),
    "label.zarr": (several(("label", PICTURE)), "only a label"),
    "oblong.zarr": (one(scales={"y": 0.5}), "0.25 um wide, 0.5 um high"),
    "array.zarr": (lambda path: zarr.save_array(path, PICTURE), "OME-Zarr"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_without_a_stained_smear_are_refused(tmp_path, name):
    write_it, message = REFUSED[name]
    write_it(tmp_path / name)
    with pytest.raises(ValueError, match=f"(?s){name}.*{message}"):
        open_slide(tmp_path / name, MPP)


@pytest.mark.parametrize(("axis", "option"), [("z", "z"), ("t", "page")])
def test_one_of_several_planes_has_to_be_named(tmp_path, axis, option):
    stack = np.stack([PICTURE, PICTURE[::-1], PICTURE[:, ::-1]]).transpose(0, 3, 1, 2)
    write(tmp_path / "a.zarr", stack, axes=f"{axis}cyx")
    assert (
        "3 focal planes" in error_of(tmp_path / "a.zarr")
        if axis == "z"
        else "3 pictures" in error_of(tmp_path / "a.zarr")
    )
    assert np.array_equal(read(f"{tmp_path / 'a.zarr'}#{option}=2"), PICTURE[::-1])
    (slide,) = find_slides([f"{tmp_path / 'a.zarr'}#{option}=2"])
    assert slide.id == f"a-{option}2"


UNITS = [
    (2500, "angstrom"),
    (2.5e-6, "decimeter"),
    (0.25 / 25400, "inch"),
    (250, "nanometer"),
    (0.25, "micrometer"),
    (2.5e-10, "kilometer"),
]


@pytest.mark.parametrize(("scale", "unit"), UNITS)
def test_units_of_length_are_understood(tmp_path, scale, unit):
    write(tmp_path / "a.zarr", scale=scale, unit=unit)
    assert open_slide(tmp_path / "a.zarr").ref.mpp == pytest.approx(0.25, rel=1e-6)


def test_packed_images_are_found_in_folders_and_pickled(tmp_path):
    SAME["packed.zarr.zip"](tmp_path / "packed.zarr.zip")
    shutil.rmtree(tmp_path / "packed")
    (tmp_path / "notes.zip").write_bytes(b"PK")
    (entry,) = find_slides([str(tmp_path)])
    assert (entry.id, entry.shown_name) == ("packed", "packed.zarr.zip")
    assert open_slide(entry.uri).ref.shape == SHAPE


def test_the_scale_is_that_of_the_system_of_the_levels(tmp_path):
    SAME["v6.zarr"](tmp_path / "v6.zarr")
    with closing(open_slide(tmp_path / "v6.zarr")) as slide:
        assert slide.ref.mpp == pytest.approx(MPP)
