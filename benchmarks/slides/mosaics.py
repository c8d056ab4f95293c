"""Assemble slides of real fields, or draw them: one crowded with white cells, one with as few as a smear has.

    python benchmarks/slides/mosaics.py OUT [--side 6720] [--workspace WORKSPACE]

writes OUT/dense and OUT/sparse, each with `slide.tiff` (0.2 um/px, three levels) and `truth.parquet` (x, y of level 0).
Fields are those of BCCD below `$SGCLDFF_DATA` (default ../shared/datasets), with `--workspace` only those of its test
split; without BCCD both slides are drawn.

The sparse mosaic is laid of square parts of fields, nearly all without a white cell, so that there is one white cell
to 750 red ones by BCCD's own boxes. There are fewer fields than it needs: every part comes several times, each time
turned or mirrored in another of the eight ways.
"""

import argparse
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box
from sgcldff.core.records import Sample
from sgcldff.core.settings import MODEL_MPP
from sgcldff.data.adapters.bccd import ADAPTER
from sgcldff.data.catalog import Catalog
from sgcldff.data.synthetic import write_slide
from sgcldff.slides.images import read_grey, read_rgb

FIELD = (480, 640)
PART_PX = 320
"""Side of a part of a field; a white cell is about 180 px wide there."""
SHRINK = 0.375
"""From BCCD's 0.075 um/px to 0.2 um/px; fields and parts keep whole numbers of px."""
RED_PER_WHITE = 750
RED_PER_MM2 = 8700
"""As in the sparse mosaic of BCCD."""
LEVELS = (1, 4, 16)

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Part:
    """A square or a whole field at 0.2 um/px."""

    rgb: Rgb
    whites: Points
    """Centres (y, x) of its white cells, px."""
    reds: int
    """Red cells by the boxes."""

    def turned(self, turn: int) -> "Part":
        """Give one of eight positions: quarter turns, mirrored from 4 on."""
        height, width = self.rgb.shape[:2]
        rgb, whites = self.rgb, self.whites
        if turn >= 4:
            rgb, whites = rgb[:, ::-1], tuple((y, width - x) for y, x in whites)
        for _ in range(turn % 4):
            whites = tuple((width - x, y) for y, x in whites)
            height, width = width, height
        return Part(np.ascontiguousarray(np.rot90(rgb, turn % 4)), whites, self.reds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=6720, help="px at 0.2 um/px")
    parser.add_argument("--workspace", type=Path)
    args = parser.parse_args()
    make(args.out, args.side, args.workspace)


def make(out: Path, side: int, workspace: Path | None = None) -> None:
    fields = chosen_fields(workspace)
    for name in ("dense", "sparse"):
        place = out / name
        place.mkdir(parents=True, exist_ok=True)
        described = lay(place, name, fields, side) if fields else draw(place, name, side)
        print(f"{place / 'slide.tiff'}: {described}")


def chosen_fields(workspace: Path | None) -> list[Sample]:
    folder = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets")) / "bccd"
    if workspace is not None:
        samples = list(Catalog.open(workspace / "catalog").select("test", "bccd"))
    else:
        samples = [sample for sample in ADAPTER.scan(folder) if isinstance(sample, Sample)] if folder.is_dir() else []
    return sorted((sample for sample in samples if sample.boxes is not None), key=lambda sample: sample.id)


def draw(place: Path, name: str, side: int) -> str:
    area_mm2 = (side * MODEL_MPP / 1000) ** 2
    cells = round(area_mm2 * (1000 if name == "dense" else RED_PER_MM2 / RED_PER_WHITE))
    drawn = write_slide(place / "slide.tiff", (side, side), MODEL_MPP, cells)
    return f"{side} x {side} px, drawn, {len(drawn.cells)} white cells"


def lay(place: Path, name: str, fields: Sequence[Sample], side: int) -> str:
    order = dense(fields, side) if name == "dense" else sparse(fields, side, np.random.default_rng(0))
    mosaic, whites = joined(order, side // order[0].rgb.shape[1])
    write_pyramid(place / "slide.tiff", mosaic)
    pq.write_table(pa.table({"y": [y for y, _ in whites], "x": [x for _, x in whites]}), place / "truth.parquet")
    reds = sum(part.reds for part in order)
    return f"{mosaic.shape[1]} x {mosaic.shape[0]} px, {len(fields)} fields, {len(whites)} white, {reds} red cells"


def dense(fields: Sequence[Sample], side: int) -> list[Part]:
    """Lay whole fields, when they come again upside down or mirrored."""
    parts = [part for field in fields if (part := whole(field)) is not None]
    height, width = parts[0].rgb.shape[:2]
    count = (side // height) * (side // width)
    return [parts[at % len(parts)].turned((0, 2, 4, 6)[at // len(parts) % 4]) for at in range(count)]


def whole(field: Sample) -> Part | None:
    rgb = read_rgb(field.image)
    return cut(rgb, Box(0, 0, *FIELD), field.boxes or (), reds_of(field)) if rgb.shape[:2] == FIELD else None


def sparse(fields: Sequence[Sample], side: int, rng: np.random.Generator) -> list[Part]:
    """Deal parts without white cells, and among them as few with one as a smear has."""
    count = (side // round(PART_PX * SHRINK)) ** 2
    empty, inhabited = [], []
    for field in fields:
        for part in parts_of(field):
            (inhabited if part.whites else empty).append(part)
    reds = count * float(np.mean([part.reds for part in empty]))
    seeded = max(1, round(reds / RED_PER_WHITE / float(np.mean([len(part.whites) for part in inhabited]))))
    dealt = [*deal(inhabited, seeded, rng), *deal(empty, count - seeded, rng)]
    return [dealt[at] for at in rng.permutation(count)]


def deal(parts: Sequence[Part], count: int, rng: np.random.Generator) -> list[Part]:
    """Take every part once before any comes again, each time in another of its eight positions."""
    first = rng.integers(8, size=len(parts))
    rounds = (rng.permutation(len(parts)) for _ in range(-(-count // len(parts))))
    picks = [(int(member), lap) for lap, members in enumerate(rounds) for member in members]
    return [parts[member].turned(int(first[member] + lap) % 8) for member, lap in picks[:count]]


def parts_of(field: Sample, shrink: float = SHRINK) -> Iterator[Part]:
    """Cut the squares out of a field that cut through no white cell: beside the cells, and about each cell.

    Some white cells have no box, but the mask shows them: such squares beside the boxes are left out.
    """
    rgb, boxes, reds = read_rgb(field.image), field.boxes or (), reds_of(field)
    if rgb.shape[:2] != FIELD or field.mask is None:
        return
    mask = read_grey(field.mask) > 0
    corners = [(y, x) for y in (0, 160) for x in (0, 320)]
    corners += [centred(box) for box in boxes]
    for y, x in corners:
        square = Box(y, x, y + PART_PX, x + PART_PX)
        inside = [within(box, square) for box in boxes]
        overlooked = not any(inside) and mask[square.slices].any()
        if all(share in (0, 1) for share in inside) and not overlooked:
            yield cut(rgb, square, boxes, reds, shrink)


def centred(box: tuple[int, int, int, int]) -> tuple[int, int]:
    x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    return min(max(0, y - 160), FIELD[0] - PART_PX), min(max(0, x - 160), FIELD[1] - PART_PX)


def within(box: tuple[int, int, int, int], square: Box) -> float:
    """Tell the share of a box (x0, y0, x1, y1) that lies in a square; a cell that reaches to the edge is cut."""
    wide = min(box[2] + 6, square.x1) - max(box[0] - 6, square.x0)
    high = min(box[3] + 6, square.y1) - max(box[1] - 6, square.y0)
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / ((box[2] - box[0] + 12) * (box[3] - box[1] + 12))


def cut(rgb: Rgb, box: Box, whites: Sequence[tuple[int, int, int, int]], reds: Points, shrink: float = SHRINK) -> Part:
    size = (round(box.width * shrink), round(box.height * shrink))
    seen = np.asarray(cv2.resize(rgb[box.slices], size, interpolation=cv2.INTER_AREA), np.uint8)
    middles = [((y0 + y1) / 2 - box.y0, (x0 + x1) / 2 - box.x0) for x0, y0, x1, y1 in whites]
    inside = tuple((y * shrink, x * shrink) for y, x in middles if 0 <= y < box.height and 0 <= x < box.width)
    return Part(seen, inside, sum(box.y0 <= y < box.y1 and box.x0 <= x < box.x1 for y, x in reds))


def reds_of(field: Sample) -> Points:
    """Read the centres of the red cells, which the adapter leaves out."""
    image = Path(field.image)
    annotation = image.parent.parent / "Annotations" / f"{image.stem}.xml"
    red = [item for item in ET.parse(annotation).getroot().iter("object") if item.findtext("name") == "RBC"]
    ends = [
        [float(item.findtext(f"bndbox/{end}") or "nan") for end in ("ymin", "ymax", "xmin", "xmax")] for item in red
    ]
    return tuple(((y0 + y1) / 2, (x0 + x1) / 2) for y0, y1, x0, x1 in ends)


def joined(parts: Sequence[Part], columns: int) -> tuple[Rgb, list[tuple[float, float]]]:
    height, width = parts[0].rgb.shape[:2]
    rows = len(parts) // columns
    mosaic = np.empty((rows * height, columns * width, 3), np.uint8)
    whites = []
    for at, part in enumerate(parts[: rows * columns]):
        top, left = at // columns * height, at % columns * width
        mosaic[top : top + height, left : left + width] = part.rgb
        whites += [(top + y, left + x) for y, x in part.whites]
    return mosaic, whites


def write_pyramid(path: Path, image: Rgb) -> None:
    with tifffile.TiffWriter(path) as writer:
        for level, step in enumerate(LEVELS):
            size = (image.shape[1] // step, image.shape[0] // step)
            writer.write(
                image if step == 1 else np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8),
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 92},
                subfiletype=min(level, 1),
                resolution=(1e4 / (MODEL_MPP * step),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


if __name__ == "__main__":
    main()
