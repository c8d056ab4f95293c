"""Write a slide of many gigapixels in seconds, and compare with it what was found there.

    python benchmarks/slides/gigapixels.py write OUT [--side 98304] [--format jpeg]   # OUT/slide.tiff, truth.parquet
    sgcldff infer OUT/slide.tiff --out OUT/results
    python benchmarks/slides/gigapixels.py score OUT                   # cells found, missed, invented; tiles; stages

The slide has 0.25 um/px and levels of 1, 4, 16 and 64. It is laid of a bank of blocks of 4,096 px, in random order; the
JPEG tiles of a block are encoded once and copied from then on. Blocks are made of parts of BCCD's fields below
`$SGCLDFF_DATA` (default ../shared/datasets), with one white cell to 750 red ones, or drawn where BCCD is missing.

Formats: `jpeg`, `jpeg2000` and `flat` (JPEG without a pyramid) are TIFF files; `ome-zarr` is a folder `slide.ome.zarr`
of the same levels, of which equal chunks are links to one file.
"""

import argparse
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
import zarr
from mosaics import PART_PX, RED_PER_MM2, RED_PER_WHITE, Part, chosen_fields, deal, joined, parts_of
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import CELL_UM
from sgcldff.data.synthetic import SmearSpec, render_field
from sgcldff.evaluation.matching import match_cells

MPP = 0.25
BLOCK_PX = 4096
TILE_PX = 256
LEVELS = (1, 4, 16)
"""Levels whose tiles belong to one block; the last one, of 64, is joined of all blocks."""
LAST = 64
BANK = 12
"""Different blocks."""
FORMATS = {"jpeg": ("jpeg", 85, LEVELS), "jpeg2000": ("jpeg2000", 40, LEVELS), "flat": ("jpeg", 85, (1,))}
"""Format -> compression, quality, levels that belong to blocks."""
OME_ZARR = "ome-zarr"
CHUNK_PX = 512
SHRINK = 0.3
"""From BCCD's 0.075 um/px to 0.25 um/px; parts keep whole numbers of px."""


def write(out: Path, side: int, form: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    bank = list(blocks(rng))
    count = -(-side // BLOCK_PX)
    places = rng.integers(len(bank), size=(count, count))
    if form == OME_ZARR:
        write_ome_zarr(out / "slide.ome.zarr", [block.rgb for block in bank], places)
    else:
        write_tiff(out / "slide.tiff", [block.rgb for block in bank], places, form)
    whites = np.array(
        [
            (row * BLOCK_PX + y, column * BLOCK_PX + x)
            for (row, column), at in np.ndenumerate(places)
            for y, x in bank[at].whites
        ]
    )
    pq.write_table(pa.table({"y": whites[:, 0], "x": whites[:, 1]}), out / "truth.parquet")
    reds = sum(bank[at].reds for at in places.flat)
    print(f"{count * BLOCK_PX} x {count * BLOCK_PX} px, {len(whites):,} white, {reds:,} red cells")


def write_tiff(path: Path, bank: Sequence[Rgb], places: NDArray[np.int64], form: str) -> None:
    compression, quality, levels = FORMATS[form]
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for step in levels:
            tiles = [encoded(shrunk(block, step), step, compression, quality) for block in bank]
            write_level(file, laid(tiles, places), len(places) * BLOCK_PX // step, step, compression, quality)
        if len(levels) > 1:
            joint = joined_last(bank, places)
            write_level(file, joint, joint.shape[0], LAST, compression, quality)


def joined_last(bank: Sequence[Rgb], places: NDArray[np.int64]) -> Rgb:
    last = [shrunk(block, LAST) for block in bank]
    return np.vstack([np.hstack([last[at] for at in row]) for row in places])


def write_ome_zarr(path: Path, bank: Sequence[Rgb], places: NDArray[np.int64]) -> None:
    """Write every chunk of every block once; where a block is laid, its chunks are links."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for level, step in enumerate((*LEVELS, LAST)):
        side, chunk = len(places) * BLOCK_PX // step, min(CHUNK_PX, BLOCK_PX // step)
        array = group.create_array(str(level), shape=(3, side, side), chunks=(3, chunk, chunk), dtype=np.uint8)
        firsts = dict[int, tuple[int, int]]()
        tiles = BLOCK_PX // step // chunk
        for (row, column), at in np.ndenumerate(places):
            y, x = firsts.setdefault(int(at), (row, column))
            if (y, x) == (row, column):
                pixels = np.moveaxis(shrunk(bank[at], step), -1, 0)
                array[:, y * tiles * chunk : (y + 1) * tiles * chunk, x * tiles * chunk : (x + 1) * tiles * chunk] = (
                    pixels
                )
                continue
            for inner, outer in np.ndindex(tiles, tiles):
                target = path / str(level) / "c" / "0" / str(row * tiles + inner) / str(column * tiles + outer)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(target.parent.parent / str(y * tiles + inner) / str(x * tiles + outer), target)
    axes = [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx")]
    levels = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [1, MPP * step, MPP * step]}]}
        for level, step in enumerate((*LEVELS, LAST))
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}


def blocks(rng: np.random.Generator) -> Iterator[Part]:
    fields = chosen_fields(None)
    if not fields:
        per_mm2 = RED_PER_MM2 / RED_PER_WHITE
        for seed in range(BANK):
            spec = replace(SmearSpec(seed=seed, wbc_per_mm2=per_mm2), mpp=MPP)
            field = render_field(spec, (BLOCK_PX, BLOCK_PX), np.random.default_rng(seed))
            yield Part(field.rgb, tuple(cell.centroid for cell in field.cells), round(RED_PER_MM2 * 1.05))
        return
    parts = [part for field in fields for part in parts_of(field, SHRINK)]
    empty, inhabited = ([part for part in parts if bool(part.whites) is seen] for seen in (False, True))
    columns = -(-BLOCK_PX // round(PART_PX * SHRINK))
    reds = columns**2 * float(np.mean([part.reds for part in empty]))
    seeded = round(reds / RED_PER_WHITE / float(np.mean([len(part.whites) for part in inhabited])))
    dealt = deal(inhabited, BANK * seeded, rng)
    for at in range(BANK):
        yield block_of(deal(empty, columns**2 - seeded, rng), dealt[at * seeded : (at + 1) * seeded], columns, rng)


def block_of(empty: Sequence[Part], inhabited: Sequence[Part], columns: int, rng: np.random.Generator) -> Part:
    """Lay parts in rows; those of the last row and column, which the block's border cuts, have no white cell."""
    inner = [row * columns + column for row in range(columns - 1) for column in range(columns - 1)]
    order: list[Part | None] = [None] * columns**2
    for place, part in zip(rng.choice(inner, len(inhabited), replace=False), inhabited, strict=True):
        order[place] = part
    rest = iter(empty)
    laid_parts = [part if part is not None else next(rest) for part in order]
    rgb, whites = joined(laid_parts, columns)
    return Part(np.ascontiguousarray(rgb[:BLOCK_PX, :BLOCK_PX]), tuple(whites), sum(part.reds for part in laid_parts))


def shrunk(rgb: Rgb, step: int) -> Rgb:
    size = (rgb.shape[1] // step, rgb.shape[0] // step)
    return rgb if step == 1 else np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def encoded(block: Rgb, step: int, compression: str, quality: int) -> NDArray[np.object_]:
    """Return the compressed tiles of a block, (rows, columns)."""
    with io.BytesIO() as memory:
        with tifffile.TiffWriter(memory) as file:
            write_level(file, block, block.shape[0], step, compression, quality)
        memory.seek(0)
        with tifffile.TiffFile(memory) as file:
            page = file.pages.first
            segments = file.filehandle.read_segments(page.dataoffsets, page.databytecounts, sort=False)
            tiles = np.array([data for data, _ in segments], object)
    return tiles.reshape(len(block) // TILE_PX, -1)


def laid(tiles: Sequence[NDArray[np.object_]], places: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the tiles of all blocks, row by row of the slide."""
    for row in places:
        for inner in range(len(tiles[0])):
            for at in row:
                yield from tiles[at][inner]


def write_level(file: tifffile.TiffWriter, tiles: Any, side: int, step: int, compression: str, quality: int) -> None:
    file.write(
        tiles,
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        photometric="rgb",
        compression=compression,
        compressionargs={"level": quality},
        subfiletype=min(step - 1, 1),
        resolution=(1e4 / (MPP * step),) * 2,
        resolutionunit="CENTIMETER",
        metadata=None,
    )


def score(out: Path) -> None:
    folder = out / "results" / "slide"
    found, true = (
        [pq.read_table(path)[axis] for axis in ("y", "x")] for path in (folder / "cells.parquet", out / "truth.parquet")
    )
    matched = match_cells(np.stack(found, axis=1) * MPP, np.stack(true, axis=1) * MPP, CELL_UM / 2)
    kept = f"{len(matched.pairs)} found, {matched.missed} missed, {matched.false_positives} invented"
    print(f"{matched.true} white cells: {kept}")
    summary = json.loads((folder / "summary.json").read_text())
    tiles = summary["tiles"] + summary["skipped"]
    print(f"{summary['tiles']} of {tiles} tiles read ({summary['tiles'] / tiles:.2%}), {summary['seconds']:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "score"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=98304, help="rounded up to whole blocks, px")
    parser.add_argument("--format", choices=(*FORMATS, OME_ZARR), default="jpeg")
    args = parser.parse_args()
    if args.what == "write":
        write(args.out, args.side, args.format)
    else:
        score(args.out)


if __name__ == "__main__":
    main()
