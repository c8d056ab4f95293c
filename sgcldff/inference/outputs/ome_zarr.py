"""Label images as OME-Zarr (NGFF 0.5, Zarr v3) under an overview of their slide, for napari and other viewers.

Two images lie over the slide: `segmentation` holds classes of pixels, and `cells` the number of the cell that a pixel
belongs to, which is the column `instance` of `cells.parquet`.

Pixel centres of a level lie half of its pixel from the slide's corner, so every level carries a translation beside its
scale; both are um.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box, lattice, lattice_box
from sgcldff.core.label_codes import BACKGROUND, CYTOPLASM, NUCLEUS
from sgcldff.core.settings import require
from sgcldff.inference.outlines import box_around, fill_outline
from sgcldff.inference.outputs.shard_files import COMPRESSION, LabelImage, ShardFiles

NAME = "segmentation"
"""Name of the label image of classes."""
INSTANCES = "cells"
"""Name of the label image of cells."""
SMALLEST_PX = 512
"""Levels are added until the longer side is at most this."""

CLASSES: Mapping[int, tuple[str, tuple[int, int, int, int]]] = {
    BACKGROUND: ("background", (0, 0, 0, 0)),
    CYTOPLASM: ("cytoplasm", (86, 180, 233, 140)),
    NUCLEUS: ("nucleus", (170, 40, 150, 180)),
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


def create_instances(root: str | Path, labels: ShardFiles) -> ShardFiles:
    """Make the label image of cells, uint32, of the shape and shards of `labels`; what was there is removed."""
    place = Path(root) / "labels" / INSTANCES / "0"
    _new_array(place, labels.shape, labels.chunk_px, labels.shard_px, np.uint32)
    return replace(labels, folder=place, dtype=np.dtype(np.uint32))


def paint_shard(files: ShardFiles, row: int, column: int, cells: Iterable[tuple[int, NDArray[np.float64]]]) -> None:
    """Write a shard of the label image of cells.

    Parameters
    ----------
    cells
        Number and outline, (N, 2) of (x, y) in px of the image, of all cells that reach into the shard. A pixel belongs
        to a cell if its centre lies inside the outline, and to the last of several.
    """
    shard = lattice_box(row, column, files.shard_px).clip(files.shape)
    pixels, boxes = np.zeros(shard.shape, np.uint32), []
    for number, outline in cells:
        fill_outline(pixels, shard, outline, number)
        boxes.append(box_around(outline))
    files.write(row, column, files.chunks_in(pixels, shard, boxes))


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
        compressors=[ZstdCodec(level=COMPRESSION), Crc32cCodec()],
        fill_value=0,
        dimension_names=("c", "y", "x")[-len(shape) :],
        overwrite=True,
    )


@dataclass(frozen=True)
class Halving:
    """A shard of a coarser level, made of the four below it."""

    finer: ShardFiles
    coarser: ShardFiles
    row: int
    column: int

    def __call__(self) -> None:
        """Write the shard, one row of its chunks after the other."""
        shard = lattice_box(self.row, self.column, self.coarser.shard_px).clip(self.coarser.shape)
        self.coarser.write(self.row, self.column, self._chunks(shard))

    def _chunks(self, shard: Box) -> Iterator[tuple[Box, LabelImage]]:
        side = self.coarser.chunk_px
        for y0 in range(shard.y0, shard.y1, side):
            below: dict[int, list[tuple[Box, LabelImage]]] = defaultdict(list)
            for box, labels in self.finer.read(Box(2 * y0, 2 * shard.x0, 2 * (y0 + side), 2 * shard.x1)):
                below[box.x0 // (2 * side)].append((box, labels))
            for column, four in below.items():
                seen = lattice_box(y0 // side, column, 2 * side).clip(self.finer.shape)
                labels = np.zeros(seen.shape, self.finer.dtype)
                for box, part in four:
                    labels[box.within(seen).slices] = part
                yield lattice_box(y0 // side, column, side).clip(self.coarser.shape), halved(labels)


Halve = Callable[[Sequence[Halving]], None]
"""Makes shards of coarser levels that do not depend on each other, in any order or at once."""


def halve_here(halvings: Sequence[Halving]) -> None:
    """Make shards one after the other."""
    for halving in halvings:
        halving()


def write_labels_ngff(
    root: str | Path, mpp: float, overview: Rgb, overview_mpp: float, halve: Halve = halve_here
) -> Path:
    """Finish the label images: coarser levels, the overview above them, and all metadata.

    What is empty costs nothing and stays unwritten. It may be run again: the same labels give the same files.

    Parameters
    ----------
    mpp
        um/px of the finest labels.
    overview
        The slide seen small, uint8 (H, W, 3).
    halve
        Called once per level with all of its shards; the finer level is complete by then.
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
    known: Mapping[str, Mapping[str, object]] = {NAME: classes, INSTANCES: {"colors": []}}
    images = {name: described for name, described in known.items() if (root / "labels" / name).exists()}
    levels = _coarser_levels([root / "labels" / name for name in images], halve)
    for name, described in images.items():
        image = zarr.open_group(root / "labels" / name, mode="a")
        image.attrs["ome"] = {"version": "0.5"}
        _describe(image, name, [mpp * 2**level for level in range(levels)])
        write_label_metadata(group, name, **described, fmt=FormatV05(), source={"image": "../../"})
    _write_overview(root, overview, overview_mpp, levels)
    return root


def _coarser_levels(images: Sequence[Path], halve: Halve) -> int:
    """Write levels 1, 2, ... of images of one shape, and count all."""
    level, finest = 0, [ShardFiles.of(image / "0") for image in images]
    while max(finest[0].shape) > SMALLEST_PX:
        level += 1
        half = (-(-finest[0].shape[0] // 2), -(-finest[0].shape[1] // 2))
        halvings: list[Halving] = []
        for at, (image, finer) in enumerate(zip(images, finest, strict=True)):
            finest[at] = coarser = replace(finer, folder=image / str(level), shape=half)
            _new_array(coarser.folder, half, coarser.chunk_px, coarser.shard_px, coarser.dtype)
            for row, column in lattice(Box.of(half), coarser.shard_px):
                if finer.exists(lattice_box(row, column, 2 * coarser.shard_px)):
                    halvings.append(Halving(finer, coarser, row, column))
        halve(halvings)
    return level + 1


def halved(labels: LabelImage) -> LabelImage:
    """Halve a label image as `halved_by_majority` does, without a look at the background around its objects."""
    small = np.zeros([-(-side // 2) for side in labels.shape], labels.dtype)
    rows, columns = (np.flatnonzero(labels.any(axis=axis)) for axis in (1, 0))
    if len(rows):
        top, left = rows[0] // 2, columns[0] // 2
        part = halved_by_majority(labels[2 * top : rows[-1] // 2 * 2 + 2, 2 * left : columns[-1] // 2 * 2 + 2])
        small[top : top + part.shape[0], left : left + part.shape[1]] = part
    return small


def halved_by_majority(labels: LabelImage) -> LabelImage:
    """Halve a label image, shape (H, W) to (ceil(H / 2), ceil(W / 2)): most frequent of four, the highest of equals."""
    even = _evened(labels)
    least, low, high, most = _sorted_four(even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2])
    lower = (least == low) & (high != most)
    return np.where(low == high, low, np.where(lower, low, most))


def _sorted_four(*four: LabelImage) -> tuple[LabelImage, ...]:
    """Sort four images at every pixel, by a network of comparisons."""
    a, b, c, d = four
    a, b, c, d = np.minimum(a, b), np.maximum(a, b), np.minimum(c, d), np.maximum(c, d)
    a, b, c, d = np.minimum(a, c), np.minimum(b, d), np.maximum(a, c), np.maximum(b, d)
    return a, np.minimum(b, c), np.maximum(b, c), d


def _evened(image: LabelImage) -> LabelImage:
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
