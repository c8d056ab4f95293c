"""What follows the network on a crowded slide: instances, label images, tables and report of a million cells.

    python benchmarks/slides/gigapixels.py write OUT --side 98304
    python benchmarks/slides/crowded.py MODEL OUT/slide.tiff RESULTS [--per-shard 4444] [--instances 2]

Cells are drawn into the label image on a jittered lattice, 4,444 to a shard of 8,192 px: about a million on a slide of
98,304 px at 0.25 um/px. In the first `--instances` shards they are found again as they are when a slide is read; in the
others they are taken as drawn, for a million cells would take hours. Types are random. Prints Markdown; times are
those of the processor.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from sgcldff.core.json_file import write_json
from sgcldff.core.parquet_file import write_table
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import Engine, InferSpec, Precision
from sgcldff.core.tally import Tally
from sgcldff.inference import Plan, ShardTask, SlideTask, Step, prefetch
from sgcldff.inference.classification import PART_SCHEMA, cells_centred_in, part_row
from sgcldff.inference.gate import Area
from sgcldff.inference.instances import Cell, find_cells
from sgcldff.results.slide import SlideJob, read_slide_job
from sgcldff.slides import find_slides

STAMP_PX = 90
"""Room for a cell on the lattice, px at the model's scale."""
EVIDENCE = bytes(16)
"""Map of what speaks for a type, which plays no part here."""


class Crowd:
    """Runs tasks: the passes over shards draw cells instead of reading them, all else is done for real."""

    def __init__(self, per_shard: int, instances: int) -> None:
        self.per_shard, self.instances = per_shard, instances
        self.found, self.found_s, self.cells = 0, 0.0, 0
        labels = stamp()
        self.stamp, (self.cell,) = labels, find_cells(labels, 0.2)

    def __call__(self, tasks: Sequence[SlideTask]) -> Iterator[tuple[SlideTask, Tally]]:
        for task in tasks:
            if not isinstance(task, ShardTask):
                yield task, task(None)  # type: ignore[arg-type]  # label images need no model
            elif task.step is Step.SEGMENT:
                yield task, self.segment(task.plan, task.index)
            else:
                yield task, self.classify(task.plan, task.index)

    def corners(self, plan: Plan, index: int) -> list[tuple[int, int]]:
        shard, rng = plan.grid.shard(index), np.random.default_rng(index)
        across = round(self.per_shard**0.5)
        step = plan.grid.shard_px // across
        free = max(1, step - STAMP_PX)
        places = [
            (shard.y0 + row * step, shard.x0 + column * step) for row in range(across) for column in range(across)
        ]
        moved = [
            (y + int(dy), x + int(dx))
            for (y, x), (dy, dx) in zip(places, rng.integers(free, size=(len(places), 2)), strict=True)
        ]
        return [(y, x) for y, x in moved if y + STAMP_PX < shard.y1 and x + STAMP_PX < shard.x1]

    def segment(self, plan: Plan, index: int) -> Tally:
        shard = plan.grid.shard(index)
        labels = np.zeros(shard.shape, np.uint8)
        corners = self.corners(plan, index)
        for y, x in corners:
            labels[y - shard.y0 : y - shard.y0 + STAMP_PX, x - shard.x0 : x - shard.x0 + STAMP_PX] = self.stamp
        plan.label_files.write(*plan.grid.place(index), plan.label_files.chunks_in(labels, shard, [shard]))
        corner = (shard.y0 // plan.block_px, shard.x0 // plan.block_px)
        size = (-(-shard.y1 // plan.block_px) - corner[0], -(-shard.x1 // plan.block_px) - corner[1])
        areas = {"codes": np.full(size, Area.MONOLAYER.value).tolist(), "corner": corner}
        facts = {"tiles": len(corners), "skipped": 0, "areas": areas, "labels": plan.labels_checksum(index)}
        write_json(plan.committed(Step.SEGMENT, index), facts, indent=None)
        return Tally(1, len(corners))

    def classify(self, plan: Plan, index: int) -> Tally:
        cells: Sequence[Cell] = [self.cell.shifted(*corner) for corner in self.corners(plan, index)]
        if index < self.instances:
            began, drawn = time.process_time(), len(cells)
            shard = plan.grid.shard(index)
            cells = cells_centred_in(plan, plan.label_files.read(shard), shard)
            self.found, self.found_s = self.found + len(cells), self.found_s + time.process_time() - began
            print(f"shard {index}: {len(cells):,} of {drawn:,} cells found again")
        chances = np.random.default_rng(index).dirichlet(np.ones(len(plan.model.labels.classes)) / 8, len(cells))
        rows = [
            part_row(plan, cell, Area.MONOLAYER)
            | {"probabilities": chance, "typicality": 0.5, "on_cell": 1.0, "evidence": EVIDENCE}
            for cell, chance in zip(cells, chances, strict=True)
        ]
        write_table(plan.committed(Step.TYPE, index), pa.Table.from_pylist(rows, schema=PART_SCHEMA))
        self.cells += len(cells)
        return Tally(1)


def stamp() -> np.ndarray:
    labels = np.zeros((STAMP_PX, STAMP_PX), np.uint8)
    middle = STAMP_PX // 2
    cv2.ellipse(labels, (middle, middle), (34, 30), 20, 0, 360, 1, -1)
    for dy, dx in ((-8, -10), (8, 0), (-4, 12)):
        cv2.circle(labels, (middle + dx, middle + dy), 9, 2, -1)
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "slide", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--per-shard", type=int, default=4444)
    parser.add_argument("--instances", type=int, default=2)
    args = parser.parse_args()
    prefetch.perf_counter = time.process_time  # other work on the machine does not enter
    (entry,) = find_slides([str(args.slide)], None)
    spec = InferSpec(engine=Engine.OPENVINO, precision=Precision.FP32)
    job = SlideJob(entry, str(args.model), ModelRef("benchmark", "0", "0"), str(args.out), spec)
    crowd = Crowd(args.per_shard, args.instances)
    read_slide_job(job, crowd, announce=lambda doing, parts: print(doing, flush=True))
    stages = json.loads((job.folder / "summary.json").read_text())["stages"]
    print(f"\n{crowd.cells:,} cells\n\n| stage | s | ms a cell |\n| --- | --- | --- |")
    per_cell = crowd.found_s / max(1, crowd.found)
    print(f"| instances | {per_cell * crowd.cells:.0f}, from {crowd.found:,} cells | {1e3 * per_cell:.2f} |")
    for stage in ("tables", "write", "pyramid", "report"):
        print(f"| {stage} | {stages[stage]:.0f} | {1e3 * stages[stage] / crowd.cells:.3f} |")
    for name in ("cells.parquet", "cells.geojson", "report.html"):
        print(f"| {name} | {(job.folder / name).stat().st_size / 1e6:.1f} MB | |")
    print(f"| peak memory | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB | |")


if __name__ == "__main__":
    main()
