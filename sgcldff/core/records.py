"""Records that pass between stages: images, slides, array and model references, and the Arrow schemas of tables."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

import pyarrow as pa

from sgcldff.core.morphology import VALUES, CellAttributes
from sgcldff.core.wording import PURPOSE

UNIDENTIFIED = "unidentified"
"""Label of a cell that was found but not classified."""
UNCERTAIN, ATYPICAL, ELSEWHERE = "uncertain", "atypical", "elsewhere"
"""Why a cell was not classified: low confidence; too unlike the training cells."""


class Split(StrEnum):
    """Part of a data split; `unassigned` before the split is made."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    UNASSIGNED = "unassigned"


@dataclass(frozen=True)
class MaskCode:
    """Thresholds by which a data set's masks are read (grey values, 0 to 255)."""

    cytoplasm: int
    """Pixels at or above this value are cell."""
    nucleus: int | None
    """Pixels at or above this value are nucleus; None: the mask does not separate nucleus and cytoplasm."""


Boxes = tuple[tuple[int, int, int, int], ...]
"""(x0, y0, x1, y1) in px, ends excluded; a point if only the centre is known."""


@dataclass(frozen=True)
class Sample:
    """One image and its annotations: a row of the manifest."""

    id: str
    """Unique in a manifest: data set, slash, name."""
    source: str
    """Name of the data set."""
    group: str
    """Patient, slide or cluster of near-duplicates; a group is never split."""
    image: str
    """Path or URI of the image."""
    mpp: float
    """um/px."""
    licence: str
    label: str | None = None
    mask: str | None = None
    mask_code: MaskCode | None = None
    boxes: Boxes | None = None
    """WBCs; None: not annotated."""
    sha256: str = ""
    height: int = 0
    width: int = 0
    phash: str = ""
    """64-bit perceptual hash, 16 hexadecimal digits."""
    split: Split = Split.UNASSIGNED
    mask_sha256: str = ""
    """Empty where there is no mask."""
    attributes: CellAttributes | None = None


MASK_CODE = pa.struct([("cytoplasm", pa.int32()), ("nucleus", pa.int32())])
BOX = pa.struct([(name, pa.int32()) for name in ("x0", "y0", "x1", "y1")])
ATTRIBUTES = pa.struct([(name, pa.string()) for name in VALUES])

SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("mpp", pa.float64(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("mask", pa.string()),
        pa.field("mask_code", MASK_CODE),
        pa.field("boxes", pa.list_(BOX)),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("phash", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("mask_sha256", pa.string(), nullable=False),
        pa.field("attributes", ATTRIBUTES),
    ],
    metadata={"sgcldff.layout": "manifest/1"},
)

QUARANTINE_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("source", "image", "reason")],
    metadata={"sgcldff.layout": "quarantine/1"},
)


def _sample_row(sample: Sample) -> dict[str, object]:
    boxes = sample.boxes and [dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)) for box in sample.boxes]
    return asdict(sample) | {"split": sample.split.value, "boxes": boxes if sample.boxes is not None else None}


def samples_to_table(samples: Iterable[Sample]) -> pa.Table:
    """Convert samples to a table of `SAMPLE_SCHEMA`."""
    return pa.Table.from_pylist([_sample_row(sample) for sample in samples], schema=SAMPLE_SCHEMA)


def samples_from_table(table: pa.Table) -> tuple[Sample, ...]:
    """Convert a table of `SAMPLE_SCHEMA` to samples; tables older than the column `attributes` lack it."""
    return tuple(_sample(row) for row in table.to_pylist())


def _sample(row: dict) -> Sample:  # type: ignore[type-arg]  # a decoded Arrow row
    code, boxes, attributes = row["mask_code"], row["boxes"], row.get("attributes")
    decoded = {
        "mask_code": code and MaskCode(code["cytoplasm"], code["nucleus"]),
        "boxes": None if boxes is None else tuple((b["x0"], b["y0"], b["x1"], b["y1"]) for b in boxes),
        "split": Split(row["split"]),
        "attributes": attributes and CellAttributes(**attributes),
    }
    return Sample(**(row | decoded))


class ScaleSource(StrEnum):
    """Where the scale of a slide comes from."""

    FILE = "the file"
    USER = "the user"
    RED_CELLS = "its red cells"


@dataclass(frozen=True)
class SlideRef:
    """A slide file and its properties."""

    id: str
    """File name without its extension; unique in a batch."""
    uri: str
    sha256: str
    mpp: float
    """um/px of level 0."""
    shape: tuple[int, int]
    """(height, width) of level 0, upright, px."""
    levels: int
    orientation: int = 1
    """Orientation of the stored pixels, 1 to 8 as in EXIF; all positions refer to the upright slide."""
    scale_from: ScaleSource = ScaleSource.FILE
    """Where `mpp` comes from."""


@dataclass(frozen=True)
class ArrayRef:
    """A reference to a stored array; tasks exchange these, never the arrays."""

    uri: str
    layout: str
    """Name and version of the layout, such as `priors/1`."""
    digest: str
    """Digest of the content's keys and of the spec that produced it."""


@dataclass(frozen=True)
class ModelRef:
    """A version of a registered model."""

    name: str
    version: str
    digest: str
    """sha256 of the weights, 16 hexadecimal digits."""


@dataclass(frozen=True)
class Lineage:
    """Provenance of an output row."""

    slide_sha256: str
    model_name: str
    model_version: str
    model_digest: str
    spec_digest: str
    code_version: str


PROBABILITY = "probability_"
"""Beginning of the names of columns with the probability of a class, in tables of cells and of predictions."""


def cell_schema(classes: Iterable[str], embedding_width: int | None = None) -> pa.Schema:
    """Return the schema of the cell table: one row per cell, positions in px of level 0 (x right, y down) and in um.

    `typicality` is the share of cells held out of the training that are at least as unlike the training cells
    (`sgcldff.models.out_of_distribution`; missing where the model does not know). `on_cell` is the share of the
    evidence for the type that lies on the cell, beyond chance (`sgcldff.inference.evidence`). `abstained_for` says why
    a cell was not classified ("uncertain", "atypical", "elsewhere", or empty). `area` is the part of the smear in which
    the cell's centre lies (such as "monolayer"; empty where it is unknown), and `counted` whether that part is usable:
    only such cells are counted. `instance`, from 1, is the cell's value in the label image `cells`. `outline` and
    `nucleus` are WKB; `nucleus` is missing where it was not kept. `embedding` is a column if its width is given, -1
    where no cell shows it.
    """
    text, number, flag = pa.string(), pa.float64(), pa.bool_()
    positions = [(name, number) for name in ("x", "y", "x0", "y0", "x1", "y1", "x_um", "y_um")]
    measures = [(name, number) for name in ("area_um2", "nucleus_area_um2", "nucleus_cytoplasm_ratio")]
    types = [
        ("label", text),
        ("confidence", pa.float32()),
        ("typicality", pa.float32()),
        ("on_cell", pa.float32()),
        *((PROBABILITY + name, pa.float32()) for name in classes),
    ]
    lineage = [(name, text) for name in Lineage.__dataclass_fields__]
    columns = [
        ("cell_id", text),
        ("slide_id", text),
        *positions,
        *measures,
        *types,
        ("abstained", flag),
        ("abstained_for", text),
        ("at_edge", flag),
        ("area", text),
        ("counted", flag),
        ("instance", pa.uint32()),
        ("outline", pa.binary()),
        ("nucleus", pa.binary()),
    ]
    if embedding_width is not None:
        columns.append(("embedding", pa.list_(pa.float16(), embedding_width)))
    return pa.schema([*columns, *lineage], metadata={"sgcldff.layout": "cells/5", "sgcldff.purpose": PURPOSE})
