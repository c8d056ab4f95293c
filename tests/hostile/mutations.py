"""Hostile files, drawn by hypothesis from valid ones: strategies of functions that write a case into a folder."""

import io
import json
import os
import shutil
import struct
import tomllib
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import tomlkit
import zarr
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file, save_file
from torch import manual_seed

from flows.settings import Settings
from flows.settings_file import to_toml
from sgcldff.core.settings import ModelSpec
from sgcldff.models.model import save_model
from sgcldff.models.nets import build
from tests import shared
from tests.small import SMALL

Case = Callable[[Path], object]

INTEGERS = st.sampled_from([0, 1, 2, 3, 7, 255, 2**15, 2**16 - 1, 2**16, 2**30, 2**31 - 1, 2**31, 2**32 - 1])
TEXTS = st.sampled_from(
    ["", " ", "abc", "-1", "0", "nan", "inf", "-inf", "1e300", "1e-300", "0.00025", "99999", "²", "٣", "9" * 5000]
    + ["\0", "a\0b", ".", "..", "/", "../../x", "/dev/zero", "=cmd()", "+1", "-x", "@x", "\r\n", '"', "<", "é" * 200]
)
VALUES = st.one_of(
    st.sampled_from(
        [None, True, [], {}, [None], [[]], {"a": 1}, -1, 0, 1e300, -0.5, 10**30, float("nan"), float("inf")]
    ),
    INTEGERS,
    TEXTS,
)
FIELD = np.full((64, 64, 3), 235, np.uint8)
FIELD[20:40, 20:40] = (120, 60, 160)
FIELD[45:60, 5:60] += np.arange(55, dtype=np.uint8)[:, None] // 4


@st.composite
def tree(draw: st.DrawFn, valid: Any) -> Any:
    """Replace, remove or add a value somewhere in JSON."""
    whole = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        owner = whole
        while isinstance(owner, (dict, list)) and owner:
            key = draw(st.sampled_from(sorted(owner) if isinstance(owner, dict) else range(len(owner))))
            if isinstance(owner[key], (dict, list)) and owner[key] and draw(st.integers(0, 4)):
                owner = owner[key]
            elif draw(st.integers(0, 5)):
                owner[key] = deepcopy(draw(VALUES))
                break
            elif isinstance(owner, dict) and draw(st.booleans()):
                owner["unknown"] = owner.pop(key)
                break
            else:
                del owner[key]
                break
    return whole


@st.composite
def raw(draw: st.DrawFn, valid: bytes) -> bytes:
    """Cut, overwrite or insert bytes."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data = data[:at]
            case 1:
                data[at : at + 4] = draw(st.binary(min_size=1, max_size=8))
            case 2:
                data[at:at] = draw(TEXTS).encode()
            case _:
                data[at : at + 2] = draw(st.sampled_from([b"\xff\xfe", b"\0\0", b"\xfc", b"\n", b","]))
    return bytes(data)


@st.composite
def words(draw: st.DrawFn, valid: str, marks: str = '">') -> str:
    """Replace values of XML, which stand behind one of the `marks`."""
    text = valid
    for _ in range(draw(st.integers(1, 3))):
        starts = [at + 1 for at, sign in enumerate(text) if sign in marks] or [0]
        at = draw(st.sampled_from(starts))
        ends = [place for sign in '"<' if (place := text.find(sign, at)) >= 0]
        value = draw(TEXTS).replace("<", "&lt;").replace('"', "&quot;")
        text = text[:at] + value + text[min(ends, default=len(text)) :]
    return text


@cache
def tiffs() -> tuple[bytes, ...]:
    """Give small TIFFs: strips, tiles, a pyramid, OME."""
    made = []
    mpp = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER", "photometric": "rgb"}
    for options in (
        {"rowsperstrip": 16},
        {"tile": (32, 32), "compression": "deflate"},
        {"tile": (32, 32), "subifds": 1},
    ):
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            writer.write(FIELD, **options, **mpp)
            if "subifds" in options:
                writer.write(FIELD[::2, ::2].copy(), tile=(32, 32), subfiletype=1, **mpp)
        made.append(stream.getvalue())
    stream = io.BytesIO()
    sizes = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "SignificantBits": 8}
    tifffile.imwrite(stream, FIELD, ome=True, photometric="rgb", metadata=sizes)
    return (*made, stream.getvalue())


@st.composite
def tiff(draw: st.DrawFn) -> Case:
    """A TIFF with other tags, other OME-XML, or damaged bytes."""
    data = bytearray(draw(st.sampled_from(tiffs())))
    name = draw(st.sampled_from(["slide.tif", "slide.ome.tif"]))
    kind = draw(st.integers(0, 5))
    if kind == 0:
        damaged = draw(raw(bytes(data)))
        return lambda folder: (folder / name).write_bytes(damaged)
    if kind == 1:
        with tifffile.TiffFile(io.BytesIO(tiffs()[-1])) as valid:
            xml = draw(words(valid.ome_metadata or ""))
        return lambda folder: tifffile.imwrite(
            folder / name, FIELD, photometric="rgb", description=xml.encode(), metadata=None
        )
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    for _ in range(draw(st.integers(1, 3))):
        entry = at + 2 + 12 * draw(st.integers(0, count - 1))
        field, form = draw(st.sampled_from([(8, "<I"), (8, "<I"), (8, "<I"), (4, "<I"), (2, "<H"), (0, "<H")]))
        value = draw(INTEGERS)
        struct.pack_into(form, data, entry + field, value % 2 ** (8 * struct.calcsize(form)))
    return lambda folder: (folder / name).write_bytes(bytes(data))


def ngff_image(folder: Path) -> None:
    """Write a valid OME-Zarr image of two levels."""
    group = zarr.open_group(folder, mode="w")
    axes = [{"name": "c", "type": "channel"}] + [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    scales = [{"type": "scale", "scale": [1, 0.25 * step, 0.25 * step]} for step in (1, 2)]
    levels = [{"path": str(at), "coordinateTransformations": [scale]} for at, scale in enumerate(scales)]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels, "name": "image"}]}
    for at in range(2):
        pixels = np.ascontiguousarray(FIELD[:: at + 1, :: at + 1].transpose(2, 0, 1))
        group.create_array(str(at), data=pixels, chunks=(3, 32, 32))


@st.composite
def ngff(draw: st.DrawFn) -> Case:
    """An OME-Zarr image with other metadata, or with chunks that are none."""
    name = draw(st.sampled_from(["zarr.json", "zarr.json", "0/zarr.json", "1/zarr.json"]))
    chunk = draw(st.sampled_from(["0/c/0/0/0", "0/c/0/1/1", "1/c/0/0/0", "1/zarr.json"]))
    kind, seed = draw(st.integers(0, 4)), draw(st.randoms(use_true_random=False)).random()
    how = draw(st.integers(0, 6))
    changes = draw(st.data())

    def write(folder: Path) -> None:
        image = folder / "slide.zarr"
        ngff_image(image)
        if kind:
            path = image / name
            path.write_text(json.dumps(changes.draw(tree(json.loads(path.read_text())))))
            return
        path = image / chunk
        kept = path.read_bytes()
        path.unlink()
        odd: Mapping[int, Callable[[], object]] = {
            0: lambda: path.symlink_to("/dev/zero"),
            1: lambda: os.mkfifo(path),
            2: lambda: path.mkdir(),
            3: lambda: path.touch(),
            4: lambda: path.write_bytes(kept[: int(seed * len(kept))]),
            5: lambda: path.write_bytes(kept[::-1]),
        }
        odd.get(how, lambda: None)()

    return write


@cache
def pictures() -> Mapping[str, bytes]:
    """Give small images by extension."""
    made = {}
    for name in ("png", "jpeg", "bmp", "webp"):
        stream = io.BytesIO()
        Image.fromarray(FIELD).save(stream, name, **({"dpi": (100_000, 100_000)} if name in ("png", "jpeg") else {}))
        made[name] = stream.getvalue()
    return made


@st.composite
def image(draw: st.DrawFn) -> Case:
    """An image with damaged bytes, or something else of its name."""
    ending = draw(st.sampled_from(sorted(pictures())))
    name = f"{draw(st.sampled_from(['image', 'mask']))}.{ending}"
    if draw(st.integers(0, 9)) == 0:
        return draw(
            st.sampled_from(
                [
                    lambda folder: os.mkfifo(folder / name),
                    lambda folder: (folder / name).symlink_to("/dev/zero"),
                    lambda folder: (folder / name).mkdir(),
                    lambda folder: (folder / name).touch(),
                ]
            )
        )
    data = bytearray(pictures()[ending])
    if draw(st.booleans()):
        at, value = draw(st.integers(0, 64)), draw(INTEGERS)
        struct.pack_into(draw(st.sampled_from(["<I", ">I"])), data, at, value)
    damaged = draw(raw(bytes(data)))
    return lambda folder: (folder / name).write_bytes(damaged)


@st.composite
def table(draw: st.DrawFn, name: str, rows: tuple[tuple[str, ...], ...], beside: Case = lambda folder: None) -> Case:
    """A table with other cells or damaged bytes."""
    cells = [list(row) for row in rows]
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from(cells))
        row[draw(st.integers(0, len(row) - 1))] = draw(TEXTS)
    signs = [{'"': '""'}, {}][draw(st.integers(0, 1))]
    text = "\n".join(",".join(f'"{cell.translate(str.maketrans(signs))}"' for cell in row) for row in cells)
    encoded = draw(raw(text.encode())) if draw(st.integers(0, 2)) == 0 else text.encode()

    def write(folder: Path) -> None:
        beside(folder)
        (folder / name).write_bytes(encoded)

    return write


def slides_beside(folder: Path) -> None:
    """Write the slides that a list names."""
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(pictures()["png"])


SLIDES = (("slide", "mpp", "id", "page"), ("a.png", "0.25", "one", ""), ("b.png", "0.5", "two", "1"))
COUNTS = (("slide_id", "label", "count"), ("a", "neutrophil", "50"), ("a", "monocyte", "3"), ("b", "lymphocyte", "7"))
READERS = (("slide_id", "reader", "neut", "age", "sex"), ("a", "x", "50", "30", "f"), ("a", "y", "60", "30", ""))
INTERVALS = """
[[interval]]
type = "neutrophil"
unit = "%"
low = 40
high = 75.5
age = [18, 65]
sex = "female"
[[interval]]
type = "wbc"
unit = "10^9/L"
low = 4
high = 11
"""
IMAGES = (("image", "label", "group", "mpp"), ("a.png", "neutrophil", "p1", "0.2"), ("b.png", "monocyte", "p2", "0.2"))
VOC = (
    "<annotation><filename>{0}</filename><size><width>64</width><height>64</height></size><object><name>WBC</name>"
    "<bndbox><xmin>20</xmin><ymin>20</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object></annotation>"
)
"""Tables and an annotation that are valid."""


@st.composite
def boxes(draw: st.DrawFn) -> Case:
    """A data set like BCCD, or like ALL-IDB1, with other annotations or names."""
    if draw(st.booleans()):
        xml = draw(words(VOC))
        damaged = draw(raw(xml.encode())) if draw(st.booleans()) else xml.encode()
        number = draw(st.sampled_from(["00001", "²", "٣", "9" * 200, "x", ""]))

        def write(folder: Path) -> None:
            for part in ("JPEGImages", "Annotations"):
                (folder / "BCCD" / part).mkdir(parents=True)
            for name in (f"BloodImage_{number}", "BloodImage_2"):
                (folder / "BCCD" / "JPEGImages" / f"{name}.jpg").write_bytes(pictures()["jpeg"])
            (folder / "BCCD" / "Annotations" / f"BloodImage_{number}.xml").write_bytes(damaged)

        return write
    centres = draw(raw(f"{draw(TEXTS)} 20\n30 {draw(TEXTS)}\n".encode()))

    def centred(folder: Path) -> None:
        for part in ("im", "xyc"):
            (folder / part).mkdir()
        (folder / "im" / "Im001_1.png").write_bytes(pictures()["png"])
        (folder / "xyc" / "Im001_1.xyc").write_bytes(centres)

    return centred


@st.composite
def odd_names(draw: st.DrawFn) -> Case:
    """A folder of images with names that file systems allow and little else does."""
    part = st.binary(min_size=1, max_size=60).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
    known = st.sampled_from([b"m\xfcller", b"=cmd()", b"-x", b"a\nb", b"%2e", b"a#page=2", b"\xff\xfe", b"~", b"a:b"])
    drawn = [name.lstrip(b".") or b"_" for name in draw(st.lists(st.one_of(known, part), min_size=1, max_size=4))]

    def write(folder: Path) -> None:
        (folder / "neutrophil").mkdir()
        for at, name in enumerate([*drawn, b"plain", b"other"]):
            field = FIELD.copy()
            field[at : at + 8, :8] = 10 * at
            path = os.fsencode(folder / "neutrophil") + b"/" + name + b".png"
            Image.fromarray(field).save(os.fsdecode(path))

    return write


@st.composite
def toml(draw: st.DrawFn, name: str, text: str) -> Case:
    """Settings with other values, or damaged text."""
    if draw(st.integers(0, 4)) == 0:
        damaged = draw(raw(text.encode()))
    else:
        values = {key: value for key, value in draw(tree(tomllib.loads(text))).items() if value is not None}
        damaged = tomlkit.dumps(without_none(values)).encode(errors="replace")
    return lambda folder: (folder / name).write_bytes(damaged)


def without_none(value: Any) -> Any:
    """Leave out what TOML cannot say."""
    if isinstance(value, dict):
        return {key: without_none(part) for key, part in value.items() if part is not None}
    return [without_none(part) for part in value if part is not None] if isinstance(value, list) else value


def small_model(folder: Path) -> Path:
    """Save a small network."""
    manual_seed(0)
    spec = ModelSpec(net=SMALL, crop_px=64)
    return save_model(folder, spec, build(spec))


@st.composite
def models(draw: st.DrawFn) -> Case:
    """A model with another spec, or other weights."""
    valid = shared.once("small-model", small_model)
    if draw(st.integers(0, 2)):
        spec = json.dumps(draw(tree(json.loads((valid / "spec.json").read_text()))))
        data, weights = spec.encode(), None
    else:
        arrays = load_file(valid / "weights.safetensors")
        name = draw(st.sampled_from(sorted(arrays)))
        value = draw(st.sampled_from([np.nan, np.inf, -1.0]))
        array = np.full_like(arrays[name], value if arrays[name].dtype.kind == "f" else 0)
        data, weights = (
            None,
            draw(st.sampled_from([{**arrays, name: array}, {**arrays, name: array.reshape(-1)[:0]}, {}])),
        )

    def write(folder: Path) -> None:
        shutil.copytree(valid, folder, dirs_exist_ok=True)
        if data is not None:
            (folder / "spec.json").write_bytes(data)
        else:
            save_file(weights, folder / "weights.safetensors")

    return write


CLUSTER = 'kind = "slurm"\ncores = 8\nmemory = "32 GB"\ninterface = "ib0"\nmax_jobs = 20\ndirectives = ["-x"]\n'


def cases() -> Mapping[str, tuple[str, st.SearchStrategy[Case]]]:
    """Give the cases by name: who reads them, and how they are drawn."""
    return {
        "TIFF tags": ("slide", tiff()),
        "NGFF metadata": ("slide", ngff()),
        "images": ("image", image()),
        "lists of slides": ("slide_list", table("list.csv", SLIDES, slides_beside)),
        "manual counts": ("manual", table("counts.csv", COUNTS)),
        "counts of readers": ("reference_counts", table("counts.csv", READERS)),
        "reference intervals": ("reference_intervals", toml("lab.toml", INTERVALS)),
        "tables of images": ("annotations", table("manifest.csv", IMAGES, slides_beside)),
        "annotations": ("annotations", boxes()),
        "names": ("names", odd_names()),
        "settings": ("settings", toml("settings.toml", to_toml(Settings()))),
        "cluster files": ("cluster", toml("cluster.toml", CLUSTER)),
        "models": ("model", models()),
    }
