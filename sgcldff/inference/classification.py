"""The second pass: cells found in the labels, and the class of each."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgcldff.core.geometry import Box
from sgcldff.core.parquet_file import write_table
from sgcldff.core.records import ATYPICAL, ELSEWHERE, UNCERTAIN, UNIDENTIFIED
from sgcldff.core.tally import Tally
from sgcldff.inference.evidence import evidence_of
from sgcldff.inference.gate import Area
from sgcldff.inference.given_cells import given_cells
from sgcldff.inference.instances import REACH_UM, Cell, apart_px, find_cells
from sgcldff.inference.outputs import CellRow
from sgcldff.inference.plan import Plan, Step, opened
from sgcldff.inference.prefetch import Stopwatch, prefetched
from sgcldff.inference.segmentation import InputBatch, cores, read_areas, segment_tiles, write_labels
from sgcldff.inference.tile_selection import Areas, select_tiles, whole_blocks
from sgcldff.models.runtimes import Runtime
from sgcldff.slides import ScaledSlide

PART_SCHEMA = pa.schema(
    [
        *((name, pa.float64()) for name in ("y", "x", "y0", "x0", "y1", "x1")),
        ("area_um2", pa.float64()),
        ("nucleus_area_um2", pa.float64()),
        ("at_edge", pa.bool_()),
        ("area", pa.string()),
        ("outline", pa.list_(pa.float64())),
        ("nuclei", pa.list_(pa.list_(pa.float64()))),
        ("probabilities", pa.list_(pa.float32())),
        ("typicality", pa.float32()),
        ("on_cell", pa.float32()),
        ("evidence", pa.binary()),
    ]
)
"""Cells of one shard: places in px of level 0, outlines as x, y, x, y, ..., the map of `Evidence` as its bytes."""

VIEW_PX = 2048
"""Side of the part of a shard that is searched for cells at once."""


def type_shard(plan: Plan, index: int, runtime: Runtime) -> Tally:
    """Find and classify the cells whose centres lie in a shard, and commit them.

    Raises
    ------
    SlideError
        If the slide is damaged there.
    """
    watch, shard = Stopwatch(), plan.grid.shard(index)
    with watch("cells"):
        box = shard.grow(math.ceil(REACH_UM / plan.model.mpp)).clip(plan.grid.shape)
        if plan.given:
            cells = tuple(cell for cell in given_cells(plan, box) if shard.contains(*cell.centroid))
        else:
            cells = cells_centred_in(plan, plan.label_files.read(box), shard)
    table = classify_cells(plan, cells, read_areas(plan, index), runtime, watch)
    write_table(plan.committed(Step.TYPE, index), table)
    return Tally(1, 0, 0, count_cells(plan, table), watch.seconds)


def sample_shard(plan: Plan, index: int, runtime: Runtime) -> Tally:
    """Find and classify the cells of one shard without the labels of its neighbours: its margin is segmented too.

    Raises
    ------
    SlideError
        If the slide is damaged there.
    """
    watch, shard = Stopwatch(), plan.grid.shard(index)
    around = shard.grow(math.ceil(REACH_UM / plan.model.mpp)).clip(plan.grid.shape)
    box = whole_blocks(around, plan.spec.tile_px).clip(plan.grid.shape)
    with watch("gate"):
        selection = select_tiles(plan, box)
    labels = segment_tiles(plan, box, selection.jobs, runtime, watch)
    with watch("cells"):
        cells = cells_centred_in(plan, plan.label_files.chunks_in(labels, box, cores(selection.jobs)), shard)
    table = classify_cells(plan, cells, selection.areas, runtime, watch)
    with watch("write"):
        written = write_labels(plan, index, labels[shard.within(box).slices], cores(selection.jobs))
        facts = {"tiles": str(len(selection.jobs)), "skipped": str(selection.skipped), "labels": written}
        write_table(plan.committed(Step.SAMPLE, index), table.replace_schema_metadata(facts))
    return Tally(2, len(selection.jobs), selection.skipped, count_cells(plan, table), watch.seconds)


def cells_centred_in(plan: Plan, chunks: Iterable[tuple[Box, NDArray[np.uint8]]], shard: Box) -> tuple[Cell, ...]:
    """Find the cells whose centres lie in a shard in the chunks of the labels in and around it.

    Chunks that are far apart are searched apart, so that what is empty between them costs nothing; many that touch each
    other are searched part by part.
    """
    mpp, side = plan.model.mpp, plan.spec.tile_px
    margin = math.ceil(REACH_UM / mpp)
    held = {(box.y0, box.x0): (box, labels) for box, labels in chunks if labels.any()}
    found: list[Cell] = []
    for corners in groups(held, side, -(-apart_px(mpp) // side)):
        boxes, labels = zip(*(held[corner] for corner in corners), strict=True)
        whole = Box.around(boxes)
        for core in [shard] if max(whole.shape) <= VIEW_PX else parts(shard, VIEW_PX):
            view = core.grow(margin).overlap(whole)
            if view.intersects(core):
                seen = joined(view, boxes, labels)
                found += find_cells(seen, mpp, plan.spec.min_cell_um2, core, corner=(view.y0, view.x0))
    return tuple(sorted(found, key=lambda cell: (cell.box, cell.centroid)))


def groups(corners: Iterable[tuple[int, int]], side: int, reach: int) -> Iterator[list[tuple[int, int]]]:
    """Group the squares of a lattice, given by their corners, that are at most `reach` squares apart."""
    left, steps = set(corners), range(-reach * side, reach * side + 1, side)
    while left:
        group, reached = [], [left.pop()]
        while reached:
            y, x = reached.pop()
            group.append((y, x))
            near = {(y + dy, x + dx) for dy in steps for dx in steps} & left
            left -= near
            reached += near
        yield group


def joined(view: Box, boxes: Iterable[Box], labels: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Assemble what a view shows of chunks of the labels."""
    seen = np.zeros(view.shape, np.uint8)
    for box, chunk in zip(boxes, labels, strict=True):
        if box.intersects(view):
            shared = box.overlap(view)
            seen[shared.within(view).slices] = chunk[shared.within(box).slices]
    return seen


def parts(box: Box, side: int) -> Iterator[Box]:
    """Cut a box into squares."""
    for y in range(box.y0, box.y1, side):
        for x in range(box.x0, box.x1, side):
            yield Box(y, x, y + side, x + side).overlap(box)


def classify_cells(plan: Plan, cells: Sequence[Cell], areas: Areas, runtime: Runtime, watch: Stopwatch) -> pa.Table:
    """Classify cells from crops that are centred on them."""
    rows = []
    for crops in prefetched(read_crops(plan, cells, runtime.spec.crop_px, watch)):
        with watch("network"):
            types = runtime.classify(crops.rgb, crops.prior)
            typicality = runtime.typicality and runtime.typicality(types.embedding).tolist()
            scores = typicality or [None] * len(types.embedding)
        for cell, probabilities, score, added, features in zip(
            crops.items, types.probabilities, scores, types.contribution, types.embedding, strict=True
        ):
            evidence = evidence_of(added, cell, crop_box(cell, runtime.spec.crop_px))
            row = part_row(plan, cell, areas.at(*cell.centroid, plan.block_px))
            row |= {"probabilities": probabilities, "typicality": score}
            row |= {"embedding": features.astype(np.float16).tobytes()}
            rows.append(row | {"on_cell": evidence.on_cell, "evidence": evidence.map.tobytes()})
    beside = {"cell_id": pa.string()} if plan.given else {}
    beside |= {"embedding": pa.binary()} if plan.spec.embeddings else {}
    return pa.Table.from_pylist(rows, schema=pa.schema([*PART_SCHEMA, *beside.items()]))


def read_crops(plan: Plan, cells: Sequence[Cell], side: int, watch: Stopwatch) -> Iterator[InputBatch[Cell]]:
    """Read the crops of cells, batch by batch.

    The priors are computed with a margin around each crop, as for the crops that the model was trained on.
    """
    slide, margin = ScaledSlide(opened(plan.slide), plan.model.mpp), plan.spec.halo_px
    inner = Box(0, 0, side, side).shift(margin, margin).slices
    for at in range(0, len(cells), plan.spec.batch_size):
        batch = tuple(cells[at : at + plan.spec.batch_size])
        with watch("read"):
            seen = np.stack([slide.read_mirrored(crop_box(cell, side).grow(margin)) for cell in batch])
        with watch("prior"):
            prior = np.stack([plan.priors(rgb)[:, *inner] for rgb in seen])
        yield InputBatch(batch, seen[:, *inner], prior)


def crop_box(cell: Cell, side: int) -> Box:
    """Centre a square on a cell."""
    y0, x0 = (round(centre - side / 2) for centre in cell.centroid)
    return Box(y0, x0, y0 + side, x0 + side)


def part_row(plan: Plan, cell: Cell, area: Area) -> dict[str, object]:
    """Convert a cell from the model's scale to level 0."""
    factor = ScaledSlide(opened(plan.slide), plan.model.mpp).factor
    box, (height, width), pixel_um2 = cell.box, plan.grid.shape, plan.model.mpp**2
    ends = zip(("y0", "x0", "y1", "x1"), (box.y0, box.x0, box.y1, box.x1), strict=True)
    return {
        "y": cell.centroid[0] * factor,
        "x": cell.centroid[1] * factor,
        **{name: end * factor for name, end in ends},
        "area_um2": cell.area_px * pixel_um2,
        "nucleus_area_um2": cell.nucleus_px * pixel_um2,
        "at_edge": box.y0 == 0 or box.x0 == 0 or box.y1 == height or box.x1 == width,
        "area": area.name.lower(),
        "outline": (cell.outline * factor).ravel(),
        "nuclei": [(part * factor).ravel() for part in cell.nuclei],
        "cell_id": cell.name,
    }


def read_cells(plan: Plan, step: Step = Step.TYPE, shards: Iterable[int] | None = None) -> Iterator[CellRow]:
    """Yield the classified cells of shards (default: all) that have passed a step, shard by shard."""
    for index in range(len(plan.grid)) if shards is None else shards:
        for row in plan.part(step, index).to_pylist():
            yield cell_row(plan, row, index)


def cell_row(plan: Plan, row: dict[str, Any], shard: int) -> CellRow:
    """Build a cell's row: the id that it was given or one from its position, its class unless the model abstains."""
    probabilities = np.array(row["probabilities"], np.float32)
    label, reason = label_of(plan, probabilities, row["typicality"], row["on_cell"])
    return CellRow(
        cell_id=row.get("cell_id") or f"{plan.slide.id}-x{row['x']:.0f}-y{row['y']:.0f}",
        slide_id=plan.slide.id,
        centroid=(row["y"], row["x"]),
        box=(row["y0"], row["x0"], row["y1"], row["x1"]),
        outline=np.array(row["outline"]).reshape(-1, 2),
        area_um2=row["area_um2"],
        nucleus_area_um2=row["nucleus_area_um2"],
        label=label,
        confidence=float(probabilities.max()),
        probabilities=probabilities,
        typicality=row["typicality"],
        on_cell=row["on_cell"],
        evidence=np.frombuffer(row["evidence"], np.uint8),
        embedding=np.frombuffer(row["embedding"], np.float16) if "embedding" in row else None,
        abstained=bool(reason),
        abstained_for=reason,
        at_edge=row["at_edge"],
        area=row["area"],
        counted=is_counted(plan, row["area"]),
        shard=shard,
        nuclei=tuple(np.array(part).reshape(-1, 2) for part in row["nuclei"]),
    )


def label_of(
    plan: Plan, probabilities: NDArray[np.float32], typicality: float | None, on_cell: float | None
) -> tuple[str, str]:
    """Return the most probable class and "", or "unidentified" and the limit because of which the model abstains.

    The confidence of a cell unlike all training cells means nothing, so that the limit on typicality comes first.
    """
    if typicality is not None and typicality < plan.spec.min_typicality:
        return UNIDENTIFIED, ATYPICAL
    if on_cell is not None and on_cell < plan.spec.min_on_cell:
        return UNIDENTIFIED, ELSEWHERE
    if plan.min_confidence and plan.model.labels.broad_confidence(probabilities[None])[0] < plan.min_confidence:
        return UNIDENTIFIED, UNCERTAIN
    return plan.model.labels.classes[int(probabilities.argmax())], ""


def is_counted(plan: Plan, area: str) -> bool:
    """Return whether cells of an area are counted in the differential."""
    return not (plan.spec.usable_only and plan.is_smear) or Area[area.upper()].usable


def count_cells(plan: Plan, table: pa.Table) -> Counter[str]:
    """Count the cells of a shard that are counted in the differential, by class."""
    columns = (table[name].to_pylist() for name in ("probabilities", "typicality", "on_cell", "area"))
    return Counter(
        label_of(plan, np.array(chances, np.float32), typicality, on_cell)[0]
        for chances, typicality, on_cell, area in zip(*columns, strict=True)
        if is_counted(plan, area)
    )
