"""The first pass: labels of a shard's pixels, and a marker of the tiles that were read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box
from sgcldff.core.json_file import write_json
from sgcldff.core.tally import Tally
from sgcldff.inference.given_cells import paint_given
from sgcldff.inference.plan import Plan, Step, opened
from sgcldff.inference.prefetch import Stopwatch, prefetched
from sgcldff.inference.tile_selection import Areas, TileJob, select_tiles
from sgcldff.models.runtimes import Runtime
from sgcldff.slides import ScaledSlide

BAND_PX = 1 << 23
"""Pixels at the model's scale that are read at once where neighbouring tiles are all read."""


Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class InputBatch(Generic[Item]):
    """Tiles, or crops of cells, ready for the network."""

    items: tuple[Item, ...]
    rgb: Rgb
    """(B, H, W, 3)."""
    prior: NDArray[np.float32]
    """(B, P, H, W)."""


def segment_shard(plan: Plan, index: int, runtime: Runtime) -> Tally:
    """Segment the tiles that the gate selects, write the shard's labels and commit.

    Raises
    ------
    SlideError
        If the slide is damaged there.
    """
    watch, shard = Stopwatch(), plan.grid.shard(index)
    with watch("gate"):
        selection = select_tiles(plan, shard)
    if plan.given:
        selection = replace(selection, jobs=(), skipped=0)
        labels, boxes = paint_given(plan, shard)
    else:
        labels, boxes = segment_tiles(plan, shard, selection.jobs, runtime, watch), cores(selection.jobs)
    with watch("write"):
        written = write_labels(plan, index, labels, boxes)
        areas = {"codes": selection.areas.codes.tolist(), "corner": selection.areas.corner}
        facts = {"tiles": len(selection.jobs), "skipped": selection.skipped, "areas": areas, "labels": written}
        write_json(plan.committed(Step.SEGMENT, index), facts, indent=None)
    return Tally(1, len(selection.jobs), selection.skipped, {}, watch.seconds)


def cores(jobs: Iterable[TileJob]) -> list[Box]:
    """Return where the labels of tiles lie."""
    return [job.tile.core for job in jobs]


def write_labels(plan: Plan, index: int, labels: NDArray[np.uint8], boxes: Iterable[Box]) -> str:
    """Write the labels of a shard, which are background outside of the boxes; return their checksum."""
    files = plan.label_files
    chunks = files.chunks_in(labels, plan.grid.shard(index), boxes)
    files.write(*plan.grid.place(index), chunks, durable=True)
    return plan.labels_checksum(index)


def segment_tiles(
    plan: Plan, box: Box, jobs: Sequence[TileJob], runtime: Runtime, watch: Stopwatch
) -> NDArray[np.uint8]:
    """Return the labels of a box, uint8 (H, W), of which some tiles are read."""
    labels = np.zeros(box.shape, np.uint8)
    for batch in prefetched(batches(plan, jobs, watch)):
        with watch("network"):
            predicted = runtime.segment(batch.rgb, batch.prior)
        with watch("stitch"):
            for job, classes in zip(batch.items, predicted, strict=True):
                paste(labels, box, job, classes)
    return labels


def paste(labels: NDArray[np.uint8], box: Box, job: TileJob, classes: NDArray[np.uint8]) -> None:
    """Copy the labels predicted for the core of a tile into those of a box."""
    core = job.tile.core
    target, predicted = labels[core.within(box).slices], classes[core.within(job.tile.read).slices]
    if job.keep is None:
        target[:] = predicted
    else:
        np.copyto(target, predicted, where=job.keep)


def batches(plan: Plan, jobs: Sequence[TileJob], watch: Stopwatch) -> Iterator[InputBatch[TileJob]]:
    """Read tiles, compute their priors and gather them into batches."""
    tiles = read_tiles(plan, jobs, watch)
    while drawn := list(islice(tiles, plan.spec.batch_size)):
        with watch("prior"):
            rgb = np.stack([pixels for _, pixels in drawn])
            prior = np.stack([plan.priors(pixels) for pixels in rgb])
        yield InputBatch(tuple(job for job, _ in drawn), rgb, prior)


def read_tiles(plan: Plan, jobs: Sequence[TileJob], watch: Stopwatch) -> Iterator[tuple[TileJob, Rgb]]:
    """Read tiles: rows of neighbours together, tiles that stand alone one by one."""
    slide = ScaledSlide(opened(plan.slide), plan.model.mpp)
    for band in bands(jobs):
        first, last = band[0].tile.read, band[-1].tile.read
        region = Box(first.y0, first.x0, last.y1, last.x1)
        with watch("read"):
            pixels = slide.read_mirrored(region)
        for job in band:
            yield job, pixels[job.tile.read.within(region).slices]


def bands(jobs: Sequence[TileJob]) -> Iterator[tuple[TileJob, ...]]:
    """Gather jobs that are read at once: as many whole rows of a lattice as `BAND_PX` holds, or a single job."""
    if not jobs or jobs[0].keep is not None:
        yield from ((job,) for job in jobs)
        return
    rows = [tuple(row) for _, row in groupby(jobs, key=lambda job: job.tile.core.y0)]
    width = rows[0][-1].tile.read.x1 - rows[0][0].tile.read.x0
    step = max(1, BAND_PX // (width * rows[0][0].tile.read.height))
    for at in range(0, len(rows), step):
        yield tuple(job for row in rows[at : at + step] for job in row)


def read_areas(plan: Plan, index: int) -> Areas:
    """Read the areas of a shard and its surroundings as the first pass saw them."""
    areas = plan.marker(index)["areas"]
    return Areas(np.array(areas["codes"], np.uint8), tuple(areas["corner"]))
