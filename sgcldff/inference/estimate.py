"""What reading a slide will take: from the look from afar, and a few tiles and cells that are read to the end."""

import resource
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np

from sgcldff.core.parquet_file import write_table
from sgcldff.inference.classification import cells_centred_in, classify_cells
from sgcldff.inference.plan import Plan, Step, clear
from sgcldff.inference.prefetch import Stopwatch
from sgcldff.inference.segmentation import cores, segment_tiles, write_labels
from sgcldff.inference.tile_selection import TileSelection, select_tiles
from sgcldff.models.runtimes import Runtime

LOOKS = 64
"""Shards at most that are looked at, evenly spread over the slide."""
SHARDS = 4
"""Shards of which tiles are read."""
TILES_PER_SHARD = 24
"""Tiles at most that are read of each."""
IMAGES_S = 0.0085
"""Time to write a cell's part of the label images and their coarser levels, s on one core, where cells lie apart."""
TABLES_S = 0.00085
"""Time to write a cell's rows of the tables, which one process does, s."""
REPORT_S = 5.0
"""Time to write the report of a large slide, s."""
RESULTS_BYTES = 7_000
"""Size of a cell's part of them, bytes, beside that of its labels."""
CELLS_PICTURED = 600
"""Cells at most around which the report has sharp pictures, in tiles of 256 px, 40 um each."""
PICTURE_BYTES = 6_000
"""Size of such a tile, bytes; neighbouring cells share some."""
LARGE_PX = 1e8
"""Pixels of a large slide."""
OVERVIEW_BYTES = 14.5e6
"""Size of the overviews of a slide that is larger than they are, bytes."""


@dataclass(frozen=True)
class Estimate:
    """What reading a slide will take."""

    tiles: int
    """Tiles that will be read."""
    skipped: int
    """Further tiles that reading everything would take."""
    cells: int
    core_s: float
    """Time on one core of what processes share, s."""
    alone_s: float
    """Time of what one process does alone, s."""
    memory_mb: float
    """Peak of a process that reads, MB."""
    disk_mb: float
    """Size of the results, MB."""

    @property
    def share(self) -> float:
        """Share of the tiles that will be read, 0 to 1."""
        return self.tiles / max(1, self.tiles + self.skipped)


def estimate_plan(plan: Plan, runtime: Runtime) -> Estimate:
    """Estimate what a plan takes; nothing of it is kept.

    The time is that of the processor, so that other work on the machine does not enter.

    Raises
    ------
    SlideError
        If the slide is damaged where it is looked at.
    """
    indices = np.unique(np.linspace(0, len(plan.grid) - 1, min(LOOKS, len(plan.grid))).round().astype(int)).tolist()
    began = process_time()
    seen = {index: select_tiles(plan, plan.grid.shard(index)) for index in indices}
    looked = process_time() - began
    boxes = [plan.grid.shard(index) for index in indices]
    times = plan.grid.shape[0] * plan.grid.shape[1] / sum(box.height * box.width for box in boxes)
    tiles = round(times * sum(len(one.jobs) for one in seen.values()))
    skipped = round(times * sum(one.skipped for one in seen.values()))
    inhabited = [index for index, one in seen.items() if one.jobs]
    read = found = size = 0
    seconds = 0.0
    with TemporaryDirectory(prefix="sgcldff-") as folder:
        trial = replace(plan, folder=folder)
        clear(trial)
        for index in inhabited[:: max(1, -(-len(inhabited) // SHARDS))]:
            done = _try(trial, index, seen[index], runtime)
            read, found, seconds = read + done[0], found + done[1], seconds + done[2]
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    per_tile = tiles / max(1, read)
    cells = round(per_tile * found)
    tiles_each = (40 / max(0.1, plan.slide.mpp) / 256 + 1) ** 2 if max(plan.slide.shape) > 4096 else 0
    pictures = min(cells, CELLS_PICTURED) * tiles_each * PICTURE_BYTES
    overviews = min(OVERVIEW_BYTES, 2 * plan.grid.shape[0] * plan.grid.shape[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return Estimate(
        tiles,
        skipped,
        cells,
        times * looked + per_tile * seconds + cells * IMAGES_S,
        cells * TABLES_S + REPORT_S * min(1.0, plan.grid.shape[0] * plan.grid.shape[1] / LARGE_PX),
        peak,
        (per_tile * size + cells * RESULTS_BYTES + pictures + overviews) / 1e6,
    )


def _try(plan: Plan, index: int, selection: TileSelection, runtime: Runtime) -> tuple[int, int, float]:
    """Read a few tiles of a shard to committed cells; return their number, that of the cells, and the time, s."""
    first, shard, watch = selection.jobs[0], plan.grid.shard(index), Stopwatch()
    row = 1 if first.keep is not None else sum(job.tile.core.y0 == first.tile.core.y0 for job in selection.jobs)
    jobs = selection.jobs[: row * max(1, TILES_PER_SHARD // row)]  # tiles of a lattice are read in whole rows
    side = first.tile.read.height
    blank = np.zeros((plan.spec.batch_size, side, side, 3), np.uint8)
    runtime.segment(blank, np.zeros((len(blank), len(plan.model.prior.names), side, side), np.float32))
    began = process_time()
    labels = segment_tiles(plan, shard, jobs, runtime, watch)
    write_labels(plan, index, labels, cores(jobs))
    cells = cells_centred_in(plan, plan.label_files.read(shard), shard)
    table = classify_cells(plan, cells, selection.areas, runtime, watch)
    write_table(plan.committed(Step.TYPE, index), table)
    return len(jobs), len(cells), process_time() - began
