"""The plan of a slide's inference, and which of its shards are committed."""

import math
import shutil
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr

from sgcldff.core.atomic import DRAFT
from sgcldff.core.code import VERSION
from sgcldff.core.errors import MissingInputError, StoreError
from sgcldff.core.geometry import Shape, TileGrid
from sgcldff.core.json_file import read_json
from sgcldff.core.parquet_file import read_table
from sgcldff.core.records import Lineage, ModelRef, SlideRef
from sgcldff.core.settings import InferSpec, ModelSpec, digest, require
from sgcldff.inference.gate import Gate, block_px, smear_pixels
from sgcldff.inference.outputs import ShardFiles, create_labels, finest_labels, labels_metadata
from sgcldff.saliency.priors import PriorStack, build
from sgcldff.slides import ScaledSlide, SlideSource, reopen
from sgcldff.slides.images import sha256_of

SURVEY_PX = 2048
"""Side of the sample of the slide from which priors and gate take their statistics."""
ENOUGH_SHARDS = 16
"""Shards are halved until a slide has as many, so that all workers have work, ..."""
SMALL_SHARD_PX = 2048
"""... but not below this side."""

NO_LABELS = "none"
"""Stands for the checksum of labels that are all background, and not stored."""
AGAIN = "run the same command again"
COARSER = 1.3
"""How much coarser than the gate's scale a level may be that it reads: no cell of those measured is lost by it."""


class Step(StrEnum):
    """Steps of a shard: two, or a single one where only a sample of the shards is read; then those of label images."""

    SEGMENT = "segment"
    TYPE = "type"
    SAMPLE = "sample"
    WRITE = "write"
    PYRAMID = "pyramid"


@dataclass(frozen=True)
class Plan:
    """Everything that a shard's result depends on besides the model's weights; small enough to send with every task."""

    slide: SlideRef
    model: ModelSpec
    reference: ModelRef
    spec: InferSpec
    """With the engine and the precision that are really used."""
    priors: PriorStack
    """With statistics of the whole slide."""
    gate: Gate
    """With statistics of the whole slide."""
    folder: str
    """Results of the slide."""
    typicality: str = ""
    """Digest of the model's reference of its training cells; empty where it has none."""
    given: str = ""
    """Digest of a file of outlines: its cells are classified, and none are searched; empty: cells are searched."""

    @property
    def segment_key(self) -> str:
        """Digest of all that the labels depend on; not, say, the smallest cell's area or the gate's calibration."""
        spec, gate = self.spec, self.spec.gate
        tiles = (spec.tile_px, spec.halo_px, self.grid.shard_px, spec.engine, spec.precision, spec.version)
        looks = (gate.threshold, gate.mpp, gate.margin_um, gate.tile_px, spec.usable_only, gate.version)
        model = (self.reference.digest, digest(self.model))
        read = (self.slide.sha256, self.slide.mpp, self.slide.orientation, *model, *tiles, VERSION)
        given = (self.given,) if self.given else ()
        return digest((*read, looks if self.gated else None, *given))

    @property
    def type_key(self) -> str:
        """Digest of what the cells depend on besides the labels; both limits of a type are applied when it is read."""
        embeddings = ("embeddings",) if self.spec.embeddings else ()
        return digest((self.segment_key, self.spec.min_cell_um2, self.typicality, *embeddings))

    @property
    def min_confidence(self) -> float:
        """Probability of the broader type below which a cell is not classified: from the settings or the model."""
        asked = self.spec.min_confidence
        return self.model.min_confidence if asked is None else asked

    @property
    def abstains(self) -> bool:
        """Whether any limit leaves cells unidentified."""
        return self.min_confidence > 0 or not self.confidence_only

    @property
    def confidence_only(self) -> bool:
        """Whether nothing but a low confidence leaves cells unidentified."""
        return self.spec.min_typicality == 0 and self.spec.min_on_cell == -1

    @property
    def gate_step(self) -> int:
        """Pixels at the model's scale between points at which the gate answers."""
        return gate_factor(self.spec, self.model)

    @property
    def gate_mpp(self) -> float:
        """Distance of these points, um; the gate looks at pixels of this size, or of a slightly coarser level."""
        return self.model.mpp * self.gate_step

    @property
    def block_px(self) -> int:
        """Side of a block of `Area`, px at the model's scale."""
        return block_px(self.gate_mpp) * self.gate_step

    @property
    def lineage(self) -> Lineage:
        """Where the cells come from."""
        model = self.reference
        return Lineage(self.slide.sha256, model.name, model.version, model.digest, digest(self.spec), VERSION)

    @cached_property
    def grid(self) -> TileGrid:
        """Tiles and shards at the model's scale."""
        shape = ScaledSlide(opened(self.slide), self.model.mpp).shape
        return TileGrid(shape, self.spec.tile_px, self.spec.halo_px, shard_side(shape, self.spec))

    @property
    def is_smear(self) -> bool:
        """Whether the slide shows enough of a smear to tell its areas, and places without white cells, apart."""
        height, width = self.grid.shape
        return height * width * self.model.mpp**2 >= self.spec.gate.smallest_um2

    @property
    def gated(self) -> bool:
        """Whether only what may hold a white cell is read."""
        return self.spec.gate.enabled and self.is_smear

    @property
    def labels(self) -> Path:
        """OME-Zarr with the label array."""
        return Path(self.folder) / "labels.ome.zarr"

    @property
    def shards(self) -> Path:
        """Folder of the committed shards."""
        return Path(self.folder) / "shards" / self.segment_key

    def committed(self, step: Step, index: int) -> Path:
        """The file that exists once a shard has passed a step: its marker, or its cells."""
        if step is Step.SEGMENT:
            return self.shards / f"segment-{index:06d}.json"
        return self.shards / self.type_key / f"{step}-{index:06d}.parquet"

    @cached_property
    def label_files(self) -> ShardFiles:
        """The files of the finest labels; their shards are those of `grid`."""
        grid = self.grid
        return ShardFiles(finest_labels(self.labels), grid.shape, grid.tile_px, grid.shard_px, np.dtype(np.uint8))

    def labels_checksum(self, index: int) -> str:
        """Hash the stored labels of a shard; `NO_LABELS` where there are none."""
        file = self.label_files.file(*self.grid.place(index))
        return sha256_of(file) if file.exists() else NO_LABELS

    def marker(self, index: int) -> dict[str, Any]:
        """Read what the first pass committed of a shard besides its labels.

        Raises
        ------
        MissingInputError, StoreError
            If it is not there, or damaged.
        """
        return read_json(self.committed(Step.SEGMENT, index), AGAIN)

    def part(self, step: Step, index: int) -> pa.Table:
        """Read the cells that a step committed of a shard.

        Raises
        ------
        MissingInputError, StoreError
            If they are not there, or damaged.
        """
        return read_table(self.committed(step, index), AGAIN)

    def intact(self, step: Step, index: int) -> Any:
        """Return what a step committed of a shard, its marker or its cells; None if any of it is lost or damaged."""
        try:
            left = self.marker(index) if step is Step.SEGMENT else self.part(step, index)
        except (MissingInputError, StoreError):
            return None
        facts = left if step is Step.SEGMENT else sample_facts(left)
        return left if step is Step.TYPE or facts.get("labels") == self.labels_checksum(index) else None

    def is_committed(self, step: Step, index: int) -> bool:
        """Return whether a shard has passed a step, and all that it left is as it was then."""
        return self.intact(step, index) is not None

    def missing(self, step: Step) -> list[int]:
        """List the shards that have not passed a step, or of which something is lost or damaged."""
        return [index for index in range(len(self.grid)) if not self.is_committed(step, index)]


def plan_slide(
    slide: SlideSource,
    model: ModelSpec,
    reference: ModelRef,
    spec: InferSpec,
    folder: str | Path,
    typicality: str = "",
    given: str = "",
) -> Plan:
    """Survey a slide and plan its inference.

    Shards in `folder` that belong to this plan are kept; those of another slide, model or tiling are removed, and so
    are files that a killed run left unfinished.

    Parameters
    ----------
    typicality
        `sgcldff.models.reference.reference_digest` of the model's folder.
    given
        Digest of a file of outlines, which are then kept with `sgcldff.inference.keep_outlines`.

    Raises
    ------
    InputError
        If a limit on typicality is set for a model without a reference.
    """
    has_scores = typicality or not spec.min_typicality
    require(bool(has_scores), f"min_typicality is {spec.min_typicality}, but the model has no reference: set it to 0")
    priors = build(model.prior).fit(smear_pixels(ScaledSlide(slide, model.mpp).survey(SURVEY_PX)))
    seen = at_gate_scale(slide, model.mpp * gate_factor(spec, model))
    gate = Gate.fit(spec.gate, seen.survey(SURVEY_PX), seen.mpp)
    plan = Plan(slide.ref, model, reference, spec, priors, gate, str(folder), typicality, given)
    clear(plan)
    create_labels(plan.labels, plan.grid.shape, spec.tile_px, plan.grid.shard_px)
    return plan


def at_gate_scale(slide: SlideSource, mpp: float) -> ScaledSlide:
    """View a slide at the gate's scale, or as it is in a slightly coarser level: that costs decoding alone."""
    level = ScaledSlide(slide, mpp, coarser=COARSER).level
    return ScaledSlide(slide, max(mpp, slide.ref.mpp * slide.downsamples[level]))


def gate_factor(spec: InferSpec, model: ModelSpec) -> int:
    """Return how many pixels of the model lie between points at which the gate answers: a power of two, at most 32."""
    return 1 << min(5, max(0, round(math.log2(spec.gate.mpp / model.mpp))))


def shard_side(shape: Shape, spec: InferSpec) -> int:
    """Halve the largest shard until there are enough of them."""
    side = spec.shard_px
    while side > SMALL_SHARD_PX and (side // 2) % spec.tile_px == 0 and _count(shape, side) < ENOUGH_SHARDS:
        side //= 2
    return side


def _count(shape: Shape, side: int) -> int:
    return math.prod(-(-length // side) for length in shape)


def clear(plan: Plan) -> None:
    """Remove shards of other plans, labels whose description is damaged, and unfinished files.

    The caller holds the slide's folder: nobody else writes there.
    """
    described = finest_labels(plan.labels) / "zarr.json"
    expected = labels_metadata(plan.grid.shape, plan.spec.tile_px, plan.grid.shard_px)
    if not (plan.shards.exists() and described.is_file() and described.read_bytes() == expected):
        shutil.rmtree(plan.shards.parent, ignore_errors=True)
        shutil.rmtree(plan.labels, ignore_errors=True)
        plan.shards.mkdir(parents=True)
    for place in (plan.shards, plan.labels):
        for unfinished in place.rglob(f"*{DRAFT}"):
            unfinished.unlink()


@lru_cache(maxsize=4)
def opened(ref: SlideRef) -> SlideSource:
    """Open a slide once per process."""
    return reopen(ref)


def sample_facts(part: pa.Table) -> dict[str, str]:
    """Return what a sample noted of a shard beside its cells: tiles, skipped tiles, checksum of its labels."""
    return {name.decode(): value.decode() for name, value in (part.schema.metadata or {}).items()}


def label_array(plan: Plan) -> zarr.Array[Any]:
    """Open the slide's label array."""
    return create_labels(plan.labels, plan.grid.shape, plan.spec.tile_px, plan.grid.shard_px)
