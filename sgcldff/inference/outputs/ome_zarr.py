"""Label images as OME-Zarr (NGFF 0.5, Zarr v3) under an overview of their slide, for napari and other viewers.

Two images lie over the slide: `segmentation` holds classes of pixels, and `cells` the number of the cell that a pixel
belongs to, which is the column `instance` of `cells.parquet`.

Pixel centres of a level lie half of its pixel from the slide's corner, so every level carries a translation beside its
scale; both are um.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from skimage.draw import polygon
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box
from sgcldff.core.settings import require

NAME = "segmentation"
"""Name of the label image of classes."""
INSTANCES = "cells"
"""Name of the label image of cells."""
SMALLEST_PX = 512
"""Levels are added until the longer side is at most this."""
BLOCK_PX = 1024
"""Side of the blocks in which labels are halved; beside one, a whole shard of the coarser level is held."""

Labels = NDArray[np.unsignedinteger[Any]]
"""Label image, shape (H, W)."""

CLASSES: Mapping[int, tuple[str, tuple[int, int, int, int]]] = {
    0: ("background", (0, 0, 0, 0)),
    1: ("cytoplasm", (86, 180, 233, 140)),
    2: ("nucleus", (170, 40, 150, 180)),
}
"""Label value -> name and colour (red, green, blue, opacity)."""


def finest_labels(root: str | Path) -> Path:
    """Return the folder of the label image's finest level."""
    return Path(root) / "labels" / NAME / "0"


def labels_metadata(shape: tuple[int, int], chunk_px: int, shard_px: int) -> bytes:
    """Return what `create_labels` writes into the `zarr.json` of the finest level."""
    store: dict[str, Buffer] = {}
    _new_array(MemoryStore(store), shape, chunk_px, shard_px)
    return store["zarr.json"].to_bytes()


def create_labels(root: str | Path, shape: tuple[int, int], chunk_px: int, shard_px: int) -> zarr.Array[Any]:
    """Make, or open again, the label image's finest level: uint8 (H, W), to be filled by whole shards.

    Raises
    ------
    InputError
        If an array of another shape or layout is already there.
    """
    place = finest_labels(root)
    if place.exists():
        array = zarr.open_array(place, mode="r+")
        same = array.shape == shape and array.chunks == (chunk_px,) * 2 and array.shards == (shard_px,) * 2
        require(
            same, f"{place}: holds labels of shape {array.shape}, not {shape} in shards of {shard_px} px: remove it"
        )
        return array
    return _new_array(place, shape, chunk_px, shard_px)


@contextmanager
def instance_writer(
    root: str | Path, labels: zarr.Array[Any], *, in_order: bool = True
) -> Iterator[Callable[[int, NDArray[np.float64]], None]]:
    """Write the label image of cells, uint32, of the shape and shards of `labels`; what was there is replaced.

    The function yielded takes a cell's number and its outline, (N, 2) of (x, y) in px of `labels`. A pixel belongs to a
    cell if its centre lies inside the outline, and to the last of several.

    Parameters
    ----------
    in_order
        Cells come in the order of the shards, row by row, in which their centres lie, so that a shard is written, and
        its cells forgotten, once no more cells can reach it.
    """
    place = Path(root) / "labels" / INSTANCES / "0"
    side = (labels.shards or labels.chunks)[0]
    columns = -(-labels.shape[1] // side)
    array = _new_array(place, labels.shape, labels.chunks[0], side, np.uint32)
    waiting: dict[int, list[tuple[int, NDArray[np.float64]]]] = defaultdict(list)

    def flush(below: int) -> None:
        for index in sorted(index for index in waiting if index < below):
            corner = (index // columns * side, index % columns * side)
            shard = Box(*corner, *(start + side for start in corner)).clip((labels.shape[0], labels.shape[1]))
            pixels = np.zeros(shard.shape, np.uint32)
            for number, outline in waiting.pop(index):
                rows = polygon(outline[:, 1] - shard.y0 - 0.5, outline[:, 0] - shard.x0 - 0.5, pixels.shape)
                pixels[rows] = number
            array[shard.slices] = pixels

    def write(number: int, outline: NDArray[np.float64]) -> None:
        (x0, y0), (x1, y1) = (np.floor(end / side).astype(int) for end in (outline.min(axis=0), outline.max(axis=0)))
        for row in range(max(0, y0), y1 + 1):
            for column in range(max(0, x0), min(x1, columns - 1) + 1):
                waiting[row * columns + column].append((number, outline))
        if in_order:
            flush(y0 * columns + x0 - 2 * columns)

    yield write
    flush(-(-labels.shape[0] // side) * columns)


def _new_array(
    place: Path | MemoryStore, shape: tuple[int, ...], chunk_px: int, shard_px: int, dtype: DTypeLike = np.uint8
) -> zarr.Array[Any]:
    lead = shape[:-2]
    return zarr.create_array(
        place,
        shape=shape,
        dtype=dtype,
        chunks=(*lead, chunk_px, chunk_px),
        shards=(*lead, shard_px, shard_px),
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        fill_value=0,
        dimension_names=("c", "y", "x")[-len(shape) :],
        overwrite=True,
    )


def write_labels_ngff(root: str | Path, mpp: float, overview: Rgb, overview_mpp: float) -> Path:
    """Finish the label images: coarser levels, the overview above them, and all metadata.

    Holds one shard at a time, whatever the slide's size; shards that were never written cost next to nothing and stay
    unwritten. It may be run again: the same labels give the same files.

    Parameters
    ----------
    mpp
        um/px of the finest labels.
    overview
        The slide seen small, uint8 (H, W, 3).
    """
    from ome_zarr.format import FormatV05  # takes memory that workers, who only fill the labels, do without
    from ome_zarr.writer import write_label_metadata

    root = Path(root)
    for place in (root, root / "labels", root / "labels" / NAME, root / "labels" / INSTANCES):
        (place / "zarr.json").unlink(missing_ok=True)  # may be damaged
    group = zarr.open_group(root / "labels", mode="a")
    group.attrs["ome"] = {"version": "0.5"}
    classes = {
        "colors": [{"label-value": value, "rgba": list(rgba)} for value, (_, rgba) in CLASSES.items()],
        "properties": [{"label-value": value, "name": name} for value, (name, _) in CLASSES.items()],
    }
    levels = 0
    for name, described in ((NAME, classes), (INSTANCES, {})):
        if not (root / "labels" / name).exists():
            continue
        levels = _coarser_levels(root / "labels" / name)
        image = zarr.open_group(root / "labels" / name, mode="a")
        image.attrs["ome"] = {"version": "0.5"}
        _describe(image, name, [mpp * 2**level for level in range(levels)])
        write_label_metadata(group, name, **described, fmt=FormatV05(), source={"image": "../../"})
    _write_overview(root, overview, overview_mpp, levels)
    return root


def _coarser_levels(folder: Path) -> int:
    """Write levels 1, 2, ... below `folder` and count all."""
    level = 0
    while max((finer := zarr.open_array(folder / str(level), mode="r")).shape) > SMALLEST_PX:
        level += 1
        half = (-(-finer.shape[0] // 2), -(-finer.shape[1] // 2))
        side = (finer.shards or finer.chunks)[0]
        coarser = _new_array(folder / str(level), half, finer.chunks[0], side, finer.dtype)
        for shard in _blocks(Box.of(half), side):
            if any(place.exists() for place in _shard_files(folder / str(level - 1), shard, side)):
                coarser[shard.slices] = _halved(finer, shard)
    return level + 1


def _shard_files(array: Path, coarser: Box, side: int) -> Iterator[Path]:
    """Name the files of the four shards of a level that make up one of the next."""
    row, column = (2 * start // side for start in (coarser.y0, coarser.x0))
    return (array / "c" / str(y) / str(x) for y in (row, row + 1) for x in (column, column + 1))


def _halved(finer: zarr.Array[Any], coarser: Box) -> Labels:
    """Compute a box of the next level block by block."""
    labels = np.zeros(coarser.shape, finer.dtype)
    for box in _blocks(coarser, BLOCK_PX):
        seen = np.asarray(finer[2 * box.y0 : 2 * box.y1, 2 * box.x0 : 2 * box.x1])
        if seen.any():
            labels[box.within(coarser).slices] = majority(seen)
    return labels


def _blocks(area: Box, side: int) -> Iterator[Box]:
    """Cut a box into squares; the last ones are smaller where it ends."""
    for y0 in range(area.y0, area.y1, side):
        for x0 in range(area.x0, area.x1, side):
            yield Box(y0, x0, min(y0 + side, area.y1), min(x0 + side, area.x1))


def majority(labels: Labels) -> Labels:
    """Halve a label image, shape (H, W) to (ceil(H / 2), ceil(W / 2)): most frequent of four, the highest of equals."""
    even = _evened(labels)
    least, low, high, most = _sorted_four(even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2])
    lower = (least == low) & (high != most)
    return np.where(low == high, low, np.where(lower, low, most))


def _sorted_four(*four: Labels) -> tuple[Labels, ...]:
    """Sort four images at every pixel, by a network of comparisons."""
    a, b, c, d = four
    a, b, c, d = np.minimum(a, b), np.maximum(a, b), np.minimum(c, d), np.maximum(c, d)
    a, b, c, d = np.minimum(a, c), np.minimum(b, d), np.maximum(a, c), np.maximum(b, d)
    return a, np.minimum(b, c), np.maximum(b, c), d


def _evened(image: Labels) -> Labels:
    """Repeat the last row or column where their number is odd."""
    margins = [(0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)]
    return np.pad(image, margins[: image.ndim], "edge")


def _write_overview(root: Path, overview: Rgb, mpp: float, count: int) -> None:
    """Write the overview in `count` levels: NGFF wants as many of an image as of its labels."""
    group = zarr.open_group(root, mode="a")
    group.attrs["ome"] = {"version": "0.5"}
    levels = [overview]
    for _ in range(count - 1):
        even = _evened(levels[-1])
        half = even.shape[1] // 2, even.shape[0] // 2
        levels.append(np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), np.uint8))
    for number, level in enumerate(levels):
        array = _new_array(root / str(number), (3, *level.shape[:2]), SMALLEST_PX, 2 * SMALLEST_PX)
        array[:] = np.moveaxis(level, 2, 0)
    _describe(group, "overview", [mpp * 2**number for number in range(len(levels))], _channels())


def _channels() -> Mapping[str, object]:
    window = {"start": 0, "end": 255, "min": 0, "max": 255}
    colours = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
    channels = [{"label": name, "color": hue, "window": window, "active": True} for name, hue in colours.items()]
    return {"channels": channels, "rdefs": {"model": "color"}}


def _describe(group: zarr.Group, name: str, mpps: Sequence[float], omero: Mapping[str, object] | None = None) -> None:
    from ome_zarr.format import FormatV05
    from ome_zarr.writer import write_multiscales_metadata

    axes = ("y", "x") if omero is None else ("c", "y", "x")
    datasets = [
        {"path": str(level), "coordinateTransformations": _transformations(axes, mpp)} for level, mpp in enumerate(mpps)
    ]
    units = {"y": "micrometer", "x": "micrometer"}
    extra = {} if omero is None else {"omero": omero}
    write_multiscales_metadata(
        group, datasets, FormatV05(), axes=list(axes), axes_units=units, name=name, metadata=extra
    )


def _transformations(axes: Sequence[str], mpp: float) -> list[dict[str, object]]:
    scale = [1.0 if axis == "c" else mpp for axis in axes]
    shift = [0.0 if axis == "c" else mpp / 2 for axis in axes]
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
