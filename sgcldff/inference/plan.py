"""A slide to typed cells, in two passes over shards that can be stopped and taken up anywhere.

First every shard is segmented, tile by tile, into one label array. Then cells are cut out of that array, shard by shard
with a margin, and typed; a cell belongs to the shard that its centre lies in, so it counts once. A shard's result
depends only on the plan: doing it again gives the same bytes, and what is committed is never done again.
"""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray

import sgcldff
from sgcldff.drafts import draft
from sgcldff.grid import Box, TileGrid
from sgcldff.instances import REACH_UM, Cell, find_cells
from sgcldff.model import Model
from sgcldff.outputs import CellRow, create_labels
from sgcldff.priors import PriorStack, build
from sgcldff.records import UNIDENTIFIED, Lineage, ModelRef, SlideRef
from sgcldff.slides import ScaledSlide, SlideSource, reopen
from sgcldff.specs import InferSpec, ModelSpec, digest

SURVEY_PX = 2048
"""Side of the sample of the slide from which the priors take their statistics."""

PART_SCHEMA = pa.schema(
    [
        *((name, pa.float64()) for name in ("y", "x", "y0", "x0", "y1", "x1")),
        ("area_um2", pa.float64()),
        ("nucleus_area_um2", pa.float64()),
        ("at_edge", pa.bool_()),
        ("outline", pa.list_(pa.float64())),
        ("nuclei", pa.list_(pa.list_(pa.float64()))),
        ("probabilities", pa.list_(pa.float32())),
    ]
)
"""Cells of one shard: places in px of level 0, outlines as x, y, x, y, ..."""


class Step(StrEnum):
    """The two passes."""

    SEGMENT = "segment"
    TYPE = "type"


@dataclass(frozen=True)
class Plan:
    """All that a shard's result depends on, besides the model's weights; small enough to travel with every task."""

    slide: SlideRef
    model: ModelSpec
    reference: ModelRef
    spec: InferSpec
    priors: PriorStack
    """With statistics of the whole slide."""
    folder: str
    """Results of the slide."""

    @property
    def segment_key(self) -> str:
        """Digest of all that the labels depend on: slide, model, tiles and code; not, say, the smallest cell's area."""
        spec = self.spec
        tiles = (spec.tile_px, spec.halo_px, spec.shard_px, spec.version)
        model = (self.reference.digest, digest(self.model))
        return digest((self.slide.sha256, self.slide.mpp, *model, *tiles, sgcldff.__version__))

    @property
    def type_key(self) -> str:
        """Digest of what the cells depend on besides the labels; the least confidence is applied when they are read."""
        return digest((self.segment_key, self.spec.min_cell_um2))

    @property
    def lineage(self) -> Lineage:
        """Where the cells come from."""
        model = self.reference
        return Lineage(
            self.slide.sha256, model.name, model.version, model.digest, digest(self.spec), sgcldff.__version__
        )

    @cached_property
    def grid(self) -> TileGrid:
        """Tiles and shards at the model's scale."""
        shape = ScaledSlide(opened(self.slide), self.model.mpp).shape
        return TileGrid(shape, self.spec.tile_px, self.spec.halo_px, self.spec.shard_px)

    @property
    def labels(self) -> Path:
        """OME-Zarr with the label array."""
        return Path(self.folder) / "labels.ome.zarr"

    @property
    def shards(self) -> Path:
        """What is committed of each shard."""
        return Path(self.folder) / "shards" / self.segment_key

    def committed(self, step: Step, index: int) -> Path:
        """The file that exists once a shard has passed a step: a marker, or the shard's cells."""
        if step is Step.SEGMENT:
            return self.shards / f"segment-{index:06d}.done"
        return self.shards / self.type_key / f"type-{index:06d}.parquet"

    def missing(self, step: Step) -> list["ShardTask"]:
        """List the shards that have not passed a step."""
        return [ShardTask(self, step, i) for i in range(len(self.grid)) if not self.committed(step, i).exists()]


@dataclass(frozen=True)
class ShardTask:
    """One pass over one shard."""

    plan: Plan
    step: Step
    index: int

    def __call__(self, model: Model) -> None:
        """Compute the shard and commit it.

        Raises
        ------
        SlideError
            If the slide is damaged there.
        """
        {Step.SEGMENT: segment_shard, Step.TYPE: type_shard}[self.step](self.plan, self.index, model)


Runner = Callable[[Sequence[ShardTask]], Iterator[tuple[ShardTask, BaseException | None]]]
"""Runs tasks anywhere, in any order, and yields each with None or the exception that it ended in."""
Progress = Callable[[int, int], None]


def plan_slide(slide: SlideSource, model: Model, reference: ModelRef, spec: InferSpec, folder: str | Path) -> Plan:
    """Look at a slide as a whole and plan its inference.

    Shards in `folder` that this plan can use are kept, those of another slide, model or tiling are cleared away, and so
    is what a killed run left half written.
    """
    survey = ScaledSlide(slide, model.spec.mpp).survey(SURVEY_PX)
    priors = build(model.spec.prior).fit(survey)
    plan = Plan(slide.ref, model.spec, reference, spec, priors, str(folder))
    clear(plan)
    create_labels(plan.labels, plan.grid.shape, spec.tile_px, spec.shard_px)
    return plan


def clear(plan: Plan) -> None:
    """Remove what is not of this plan, and files that were never finished."""
    if not (plan.shards.exists() and plan.labels.exists()):
        shutil.rmtree(plan.shards.parent, ignore_errors=True)
        shutil.rmtree(plan.labels, ignore_errors=True)
        plan.shards.mkdir(parents=True)
    for place in (plan.shards, plan.labels):
        for unfinished in place.rglob("*.partial*"):
            unfinished.unlink()


def run_plan(plan: Plan, run: Runner, progress: Progress | None = None) -> None:
    """Take all shards through both passes; those that are committed are left alone.

    Raises
    ------
    Exception
        The first error of a shard, once the other shards of the pass are done: they need not be repeated.
    """
    total = 2 * len(plan.grid)
    for step, before in ((Step.SEGMENT, 0), (Step.TYPE, len(plan.grid))):
        tasks = plan.missing(step)
        done, errors = before + len(plan.grid) - len(tasks), []
        for _, error in run(tasks):
            done += 1
            errors += [error] if error is not None else []
            if progress is not None:
                progress(done, total)
        if errors:
            raise errors[0]


def serially(model: Model) -> Runner:
    """Run tasks one after the other in this process; an error ends the run."""

    def run(tasks: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, None]]:
        for task in tasks:
            task(model)
            yield task, None

    return run


@lru_cache(maxsize=4)
def opened(ref: SlideRef) -> SlideSource:
    """Open a slide once a process."""
    return reopen(ref)


def segment_shard(plan: Plan, index: int, model: Model) -> None:
    """Segment the tiles of a shard, write their labels and commit."""
    shard = plan.grid.shard(index)
    labels = np.zeros(shard.shape, np.uint8)
    slide = ScaledSlide(opened(plan.slide), plan.model.mpp)
    tiles = plan.grid.tiles(shard)
    region = Box(tiles[0].read.y0, tiles[0].read.x0, tiles[-1].read.y1, tiles[-1].read.x1)
    pixels = slide.read_mirrored(region)
    for batch in batches(tiles, plan.spec.batch_size):
        seen = np.stack([pixels[tile.read.within(region).slices] for tile in batch])
        told = model.predict(seen, np.stack([plan.priors(rgb) for rgb in seen])).segmentation.argmax(axis=1)
        for tile, classes in zip(batch, told, strict=True):
            labels[tile.core.within(shard).slices] = classes[tile.core.within(tile.read).slices]
    label_array(plan)[shard.slices] = labels
    commit(plan.committed(Step.SEGMENT, index))


def label_array(plan: Plan) -> zarr.Array[Any]:
    """Open the slide's label array."""
    return create_labels(plan.labels, plan.grid.shape, plan.spec.tile_px, plan.spec.shard_px)


def commit(marker: Path) -> None:
    """Make a marker appear."""
    with draft(marker) as partial:
        partial.touch()


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut a sequence into runs of `size`."""
    return (items[at : at + size] for at in range(0, len(items), size))


def type_shard(plan: Plan, index: int, model: Model) -> None:
    """Cut out and type the cells whose centres lie in a shard, and commit them."""
    cells = own_cells(plan, plan.grid.shard(index))
    slide = ScaledSlide(opened(plan.slide), plan.model.mpp)
    rows = [
        part_row(plan, cell, probabilities)
        for batch in batches(cells, plan.spec.batch_size)
        for cell, probabilities in zip(batch, cell_types(plan, slide, batch, model), strict=True)
    ]
    with draft(plan.committed(Step.TYPE, index)) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=PART_SCHEMA), partial)


def own_cells(plan: Plan, shard: Box) -> tuple[Cell, ...]:
    """Find the cells whose centres lie in a shard, from the labels of the shard and all that matters around it."""
    box = shard.grow(math.ceil(REACH_UM / plan.model.mpp)).clip(plan.grid.shape)
    labels = np.asarray(label_array(plan)[box.slices])
    found = find_cells(labels, plan.model.mpp, plan.spec.min_cell_um2, core=shard.within(box))
    return tuple(cell.shifted(box.y0, box.x0) for cell in found)


def cell_types(plan: Plan, slide: ScaledSlide, cells: Sequence[Cell], model: Model) -> NDArray[np.float32]:
    """Tell the probabilities of the types, (N, C), from crops that are centred on the cells.

    The priors see a margin around a crop, as they saw the surroundings of the crops that the model was trained on.
    """
    margin, side = plan.spec.halo_px, plan.model.crop_px
    seen = np.stack([slide.read_mirrored(crop_box(cell, side).grow(margin)) for cell in cells])
    inner = Box(0, 0, side, side).shift(margin, margin).slices
    priors = np.stack([plan.priors(rgb)[:, *inner] for rgb in seen])
    return model.predict(seen[:, *inner], priors).cell_type


def crop_box(cell: Cell, side: int) -> Box:
    """Centre a square on a cell."""
    y0, x0 = (round(centre - side / 2) for centre in cell.centroid)
    return Box(y0, x0, y0 + side, x0 + side)


def part_row(plan: Plan, cell: Cell, probabilities: NDArray[np.float32]) -> dict[str, object]:
    """Bring a cell from the model's scale to level 0."""
    factor = ScaledSlide(opened(plan.slide), plan.model.mpp).factor
    box, (height, width), area = cell.box, plan.grid.shape, plan.model.mpp**2
    ends = zip(("y0", "x0", "y1", "x1"), (box.y0, box.x0, box.y1, box.x1), strict=True)
    return {
        "y": cell.centroid[0] * factor,
        "x": cell.centroid[1] * factor,
        **{name: end * factor for name, end in ends},
        "area_um2": cell.area_px * area,
        "nucleus_area_um2": cell.nucleus_px * area,
        "at_edge": box.y0 == 0 or box.x0 == 0 or box.y1 == height or box.x1 == width,
        "outline": (cell.outline * factor).ravel(),
        "nuclei": [(part * factor).ravel() for part in cell.nuclei],
        "probabilities": probabilities,
    }


def read_cells(plan: Plan) -> Iterator[CellRow]:
    """Give the typed cells of a slide whose shards are all committed, shard by shard."""
    for index in range(len(plan.grid)):
        for row in pq.read_table(plan.committed(Step.TYPE, index)).to_pylist():
            yield cell_row(plan, row)


def cell_row(plan: Plan, row: dict[str, Any]) -> CellRow:
    """Name a cell by its place and tell its type, or that it is not certain enough."""
    probabilities = np.array(row["probabilities"], np.float32)
    confidence = float(probabilities.max())
    abstained = confidence < plan.spec.min_confidence
    return CellRow(
        cell_id=f"{plan.slide.id}-x{row['x']:.0f}-y{row['y']:.0f}",
        slide_id=plan.slide.id,
        centroid=(row["y"], row["x"]),
        box=(row["y0"], row["x0"], row["y1"], row["x1"]),
        outline=np.array(row["outline"]).reshape(-1, 2),
        area_um2=row["area_um2"],
        nucleus_area_um2=row["nucleus_area_um2"],
        label=UNIDENTIFIED if abstained else plan.model.labels.classes[int(probabilities.argmax())],
        confidence=confidence,
        probabilities=probabilities,
        abstained=abstained,
        at_edge=row["at_edge"],
        nuclei=tuple(np.array(part).reshape(-1, 2) for part in row["nuclei"]),
    )
