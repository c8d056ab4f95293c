"""The queue: a folder with a table of cells, an image of each, and the page on which a person classifies them."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.errors import MissingInputError
from sgcldff.core.records import PROBABILITY, Lineage
from sgcldff.core.settings import require
from sgcldff.core.wording import PURPOSE
from sgcldff.results.review.crops import CROPS_FOLDER, Crops, crop_name
from sgcldff.results.review.selection import LINEAGE, POSITIONS, rank_of
from sgcldff.slides import SlideSource

QUEUE_TABLE, QUEUE_CSV, QUEUE_PAGE = "queue.parquet", "queue.csv", "review.html"
LAYOUT = "queue/1"
FORMULA = re.compile(r"[=+@\t\r-]")
"""What starts a formula where a spreadsheet opens a CSV file."""


@dataclass(frozen=True)
class QueuedCell:
    """A cell under review: a row of the queue."""

    cell_id: str
    slide_id: str
    x: float
    """px of level 0, to the right; `y` downwards."""
    y: float
    x_um: float
    y_um: float
    crop: str
    """Its picture, below the queue's folder."""
    crop_mpp: float
    """um/px of the picture."""
    at_border: bool
    """The picture reaches beyond the slide's border, where it is mirrored."""
    why: str
    """What it was chosen for: "label", "evidence", "confidence", "sample" or "representative"."""
    label: str
    """Predicted type."""
    confidence: float
    probabilities: tuple[float, ...]
    """Shape (C,)."""
    classes: tuple[str, ...]
    """In the order of the probabilities; a reviewer chooses among these."""
    lineage: Lineage
    """The slide's digest, and which model and code found the cell."""


QUEUE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("cell_id", "slide_id")),
        *((name, pa.float64()) for name in POSITIONS),
        ("crop", pa.string()),
        ("crop_mpp", pa.float64()),
        ("at_border", pa.bool_()),
        *((name, pa.string()) for name in ("why", "label")),
        ("confidence", pa.float64()),
        ("probabilities", pa.list_(pa.float64())),
        ("classes", pa.list_(pa.string())),
        *((name, pa.string()) for name in LINEAGE),
    ],
    metadata={"sgcldff.layout": LAYOUT, "sgcldff.purpose": PURPOSE},
)


def queued(cells: pd.DataFrame, classes: Sequence[str], source: SlideSource) -> list[QueuedCell]:
    """Make queue rows of one slide's chosen cells, as `choosing.chosen` gives them."""
    crops = Crops(source)
    return [_queued(row, tuple(classes), crops) for row in cells.to_dict("records")]


def _queued(row: dict, classes: tuple[str, ...], crops: Crops) -> QueuedCell:  # type: ignore[type-arg]  # a row
    return QueuedCell(
        cell_id=row["cell_id"],
        slide_id=row["slide_id"],
        x=row["x"],
        y=row["y"],
        x_um=row["x_um"],
        y_um=row["y_um"],
        crop=f"{CROPS_FOLDER}/{crop_name(row['slide_sha256'], row['cell_id'])}",
        crop_mpp=crops.slide.mpp,
        at_border=crops.crossing((row["y"], row["x"])),
        why=row["why"],
        label=row["label"],
        confidence=float(row["confidence"]),
        probabilities=tuple(float(row[PROBABILITY + name]) for name in classes),
        classes=classes,
        lineage=Lineage(*(str(row[name]) for name in LINEAGE)),
    )


def queue_order(cell: QueuedCell) -> str:
    """Return a sort key that is unrelated to the type of a cell."""
    return rank_of(cell.lineage.slide_sha256, cell.cell_id)


def write_queue(folder: Path, cells: Sequence[QueuedCell]) -> Path:
    """Write `queue.parquet` and `queue.csv`, in which lists are JSON, and clear away pictures that are in neither.

    Each file appears whole or not at all.
    """
    table = pa.Table.from_pylist([_row(cell) for cell in cells], schema=QUEUE_SCHEMA)
    with atomic_write(folder / QUEUE_TABLE) as partial:
        pq.write_table(table, partial, compression="zstd")
    frame = table.to_pandas()
    for name in ("probabilities", "classes"):
        frame[name] = [json.dumps(list(values), ensure_ascii=False) for values in frame[name]]
    frame = frame.map(lambda cell: f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell)
    with atomic_write(folder / QUEUE_CSV) as partial:
        frame.to_csv(partial, index=False)
    kept = {folder / cell.crop for cell in cells}
    for picture in (folder / CROPS_FOLDER).glob("*.png"):
        if picture not in kept:
            picture.unlink()
    return folder / QUEUE_TABLE


def _row(cell: QueuedCell) -> dict[str, object]:
    row: dict[str, object] = asdict(cell)
    del row["lineage"]
    return row | asdict(cell.lineage)


def read_queue(folder: str | Path) -> tuple[QueuedCell, ...]:
    """Read the cells of a queue.

    The names of the pictures are made anew from those of the cells: what a table says cannot lead out of its folder.

    Raises
    ------
    MissingInputError
        If the folder holds no queue.
    InputError
        If its table is damaged or of another layout.
    """
    path = Path(folder) / QUEUE_TABLE
    if not path.exists():
        raise MissingInputError(f"{folder}: holds no {QUEUE_TABLE}; name the folder of `sgcldff review make`")
    with reading(path, "not a queue", "make it again with `sgcldff review make`"):
        table = pq.read_table(path)
        layout = (table.schema.metadata or {}).get(b"sgcldff.layout", b"").decode()
        if layout != LAYOUT:
            raise ValueError(f"its layout is {layout or 'unknown'}, not {LAYOUT}")
        return tuple(_cell(row) for row in table.to_pylist())


def _cell(row: dict) -> QueuedCell:  # type: ignore[type-arg]  # a decoded Arrow row
    lineage = Lineage(*(row.pop(name) for name in LINEAGE))
    lists = {name: tuple(row[name]) for name in ("probabilities", "classes")}
    crop = f"{CROPS_FOLDER}/{crop_name(lineage.slide_sha256, row['cell_id'])}"
    return QueuedCell(**(row | lists | {"crop": crop, "lineage": lineage}))


def require_free(folder: Path) -> None:
    """Refuse to make a queue in a folder that holds something else; files of an unfinished queue are ignored.

    Raises
    ------
    InputError
        If it does.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    strange = [
        name
        for name in names
        if name not in (CROPS_FOLDER, QUEUE_TABLE, QUEUE_CSV, QUEUE_PAGE) and not name.startswith(".")
    ]
    require(
        not strange,
        f"{folder}: holds something else than a queue ({', '.join(strange[:3])}); name an empty folder with --out",
    )
