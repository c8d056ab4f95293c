"""Assemble a slide from held-out BCCD fields, read it with a model and compare with the boxes.

    python benchmarks/mosaic.py make WORKSPACE OUT     # OUT/slide.tiff, OUT/truth.parquet
    sgcldff infer OUT/slide.tiff --out OUT/results --workspace WORKSPACE
    python benchmarks/mosaic.py score OUT              # cells found, missed, invented; types

The catalog of WORKSPACE names the fields of the test split; the model must have been trained on that catalog. Where the
split has fewer fields than the mosaic needs, they come again mirrored.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile

from sgcldff.core.records import Sample
from sgcldff.core.settings import CELL_UM
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation.matching import match_cells
from sgcldff.slides.images import read_rgb

ROWS, COLUMNS = 13, 10
MIRRORS = ((slice(None), slice(None)), (slice(None), slice(None, None, -1)), (slice(None, None, -1), slice(None)))
"""Ways in which a field is shown: as it is, left and right exchanged, top and bottom exchanged."""


def make(workspace: Path, out: Path) -> None:
    fields = sorted(Catalog.open(workspace / "catalog").select("test", "bccd"), key=lambda sample: sample.id)
    fields = [field for field in fields if field.boxes is not None and (field.height, field.width) == (480, 640)]
    places = ROWS * COLUMNS
    if len(fields) * len(MIRRORS) < places:
        sys.exit(f"{len(fields)} fields in the test split: at least {-(-places // len(MIRRORS))} are needed")
    mosaic = np.empty((ROWS * 480, COLUMNS * 640, 3), np.uint8)
    truth = []
    for place in range(places):
        field, mirror = fields[place % len(fields)], place // len(fields)
        top, left = place // COLUMNS * 480, place % COLUMNS * 640
        mosaic[top : top + 480, left : left + 640] = read_rgb(field.image)[MIRRORS[mirror]]
        truth += [shifted(box, mirror, left, top) | {"label": label(field)} for box in field.boxes or ()]
    out.mkdir(parents=True, exist_ok=True)
    write_pyramid(out / "slide.tiff", mosaic, fields[0].mpp)
    pq.write_table(pa.Table.from_pylist(truth), out / "truth.parquet")
    print(f"{mosaic.shape[1]} x {mosaic.shape[0]} px from {len(fields)} fields, {len(truth)} WBCs")


def label(field: Sample) -> str | None:
    return field.label if len(field.boxes or ()) == 1 else None


def shifted(box: tuple[int, int, int, int], mirror: int, left: int, top: int) -> dict[str, float]:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return {"x": left + (640 - x if mirror == 1 else x), "y": top + (480 - y if mirror == 2 else y)}


def write_pyramid(path: Path, image: np.ndarray, mpp: float) -> None:
    common = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        for level, step in enumerate((1, 4, 16)):
            writer.write(
                np.ascontiguousarray(image[::step, ::step]),
                subfiletype=1 if level else 0,
                resolution=(1e4 / (mpp * step),) * 2,
                resolutionunit="CENTIMETER",
                compressionargs={"level": 95},
                **common,
            )


def score(out: Path) -> None:
    told = pq.read_table(out / "results" / "slide" / "cells.parquet").to_pandas()
    true = pq.read_table(out / "truth.parquet").to_pandas()
    mpp = (told["x_um"] / told["x"]).median()
    found = match_cells(told[["x_um", "y_um"]].to_numpy(), true[["x", "y"]].to_numpy() * mpp, CELL_UM / 2)
    known = true["label"].notna()
    pairs = [(true["label"][a], told["label"][b]) for b, a in found.pairs if known[a]]
    right = sum(a == b for a, b in pairs)
    print(f"{found.true} WBCs: {len(found.pairs)} found, {found.missed} missed, {found.false_positives} false")
    print(f"recall {found.recall:.3f}, precision {found.precision:.3f}, type right {right} of {len(pairs)}")
    for (a, b), count in sorted(Counter(pairs).items()):
        print(f"  {a} told {b}: {count}")


if __name__ == "__main__":
    {"make": make, "score": score}[sys.argv[1]](*map(Path, sys.argv[2:]))
