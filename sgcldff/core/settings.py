"""Frozen, validated, versioned settings. Lengths are in pixels (px) or microns (um); `mpp` is microns per pixel.

A spec's digest enters every cache key and every output row, so `version` is raised whenever the results of the code
behind a spec change.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, is_dataclass
from enum import StrEnum
from typing import Any

from sgcldff.core.errors import InputError
from sgcldff.core.labels import WBC5, LabelSpace

MODEL_MPP = 0.2
"""Scale (um/px) at which priors and networks see smears; a WBC of 13.5 um is then about 67 px wide."""

STRIDE = 32
"""Networks take images whose sides are multiples of this many px."""

CELL_UM = 13.5
"""Width of a typical WBC in a smear, um (usually 12 to 15)."""


def require(holds: bool, message: str) -> None:
    """Raise `InputError(message)` unless `holds`."""
    if not holds:
        raise InputError(message)


def digest(spec: Any) -> str:
    """Hash a frozen dataclass, or a tuple or dict of plain values, to 16 hexadecimal digits."""
    plain = asdict(spec) if is_dataclass(spec) and not isinstance(spec, type) else spec
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Pretrained(StrEnum):
    """Whether an encoder starts from ImageNet weights."""

    AUTO = "auto"
    """Use them if a package that contains them is installed, otherwise start from random weights and log it."""
    REQUIRED = "required"
    """Fail if no such package is installed."""
    OFF = "off"
    """Start from random weights."""


class Mixing(StrEnum):
    """Building blocks of the encoder's deep stages."""

    HYBRID = "hybrid"
    CONVOLUTION = "convolution"
    SWIN = "swin"


@dataclass(frozen=True)
class PriorSpec:
    """Which saliency priors are computed, and at what scale."""

    names: tuple[str, ...] = ("ramf",)
    """Saliency priors, one input channel each; `ramf` and others of `sgcldff.saliency.priors`."""
    mpp: float = MODEL_MPP
    """Scale at which the priors are computed, um/px; 0.02 to 8."""
    cell_um: float = CELL_UM
    """Width of the cells to find, um; 2 to 60."""
    version: int = 2

    def __post_init__(self) -> None:
        require(len(self.names) > 0, "PriorSpec.names is empty: name at least one prior")
        require(0.02 <= self.mpp <= 8, f"PriorSpec.mpp is {self.mpp}: must be between 0.02 and 8 um/px")
        require(2 <= self.cell_um <= 60, f"PriorSpec.cell_um is {self.cell_um}: must be between 2 and 60 um")


@dataclass(frozen=True)
class SplitSpec:
    """How groups of images are assigned to training, validation and test."""

    val: float = 0.15
    """Share of the groups for validation, 0 to below 1."""
    test: float = 0.15
    """Share of the groups for the test split, 0 to below 1; `val` and `test` together below 1."""
    seed: int = 0
    """Seed of the assignment."""
    version: int = 1

    def __post_init__(self) -> None:
        inside = self.val >= 0 and self.test >= 0 and self.val + self.test < 1
        require(inside, f"SplitSpec shares val={self.val}, test={self.test}: both at least 0, together below 1")


@dataclass(frozen=True)
class IngestSpec:
    """Which images ingest accepts, and how it finds near-duplicates."""

    labels: LabelSpace | None = None
    """Accepted labels: `classes`, and `coarse` labels with the classes that they may mean. Unset: all known labels."""
    split: SplitSpec = field(default_factory=SplitSpec)
    min_side_px: int = 32
    """Images with a shorter side are skipped, px; at least 1."""
    hash_distance: int = 6
    """Two images whose perceptual hashes (64 bit) differ in at most this many bits may be near-duplicates; 0 to 16."""
    min_similarity: float = 0.28
    """Images whose shift-invariant fingerprints have at least this cosine similarity may be, too; 0 to 1."""
    min_correlation: float = 0.74
    """Of these pairs, those whose overlapping parts correlate at least this much are near-duplicates; 0 to 1."""
    version: int = 2

    def __post_init__(self) -> None:
        require(
            0 <= self.hash_distance <= 16,
            f"IngestSpec.hash_distance is {self.hash_distance}: must be between 0 and 16 bits",
        )
        require(self.min_side_px >= 1, f"IngestSpec.min_side_px is {self.min_side_px}: must be at least 1 px")


@dataclass(frozen=True)
class NetSpec:
    """A network, and the parts of SG-CLDFF that are switched on."""

    name: str = "sgcldff"
    """Network: `sgcldff`, or a baseline such as `unet`, from `sgcldff.models.nets`."""
    backbone: str = "tf_efficientnet_lite0"
    """timm EfficientNet whose stages form the convolutional part of the encoder."""
    pretrained: Pretrained = Pretrained.AUTO
    """Whether the encoder starts from ImageNet weights: `auto` (if a package has them), `required`, or `off`."""
    mixing: Mixing = Mixing.HYBRID
    """Building blocks of the encoder's deep stages: `hybrid`, `convolution` or `swin`."""
    convolutions: int = 3
    """Convolutional stages of a hybrid encoder (strides 2, 4, 8, 16); Swin blocks form the rest."""
    fusion_width: int = 96
    """Channels of the fused features."""
    cardinality: int = 8
    """Groups of the fusion convolutions; must divide `fusion_width`."""
    prior_input: bool = True
    """Feed the prior to the encoder as extra channels."""
    prior_gate: bool = True
    """Let the prior gate the features at every fused level."""
    cross_layer_fusion: bool = True
    """Fuse shallow and deep features; off: only upsample the deepest features."""
    version: int = 3

    def __post_init__(self) -> None:
        require(2 <= self.convolutions <= 4, f"NetSpec.convolutions is {self.convolutions}: must be 2 to 4 of 5 stages")
        divides = self.cardinality >= 1 and self.fusion_width % self.cardinality == 0
        require(
            divides, f"NetSpec.fusion_width {self.fusion_width} must be a multiple of cardinality {self.cardinality}"
        )


@dataclass(frozen=True)
class ModelSpec:
    """Everything besides the weights that is needed to run a trained network."""

    net: NetSpec = field(default_factory=NetSpec)
    prior: PriorSpec = field(default_factory=PriorSpec)
    labels: LabelSpace = WBC5
    mpp: float = MODEL_MPP
    """um/px of the images that the network sees."""
    crop_px: int = 128
    """Side of the crop, centred on a cell, from which the cell is classified, px."""
    imagenet: str = ""
    """Package, version and licence of the ImageNet weights that training started from; empty if there were none."""
    min_confidence: float = 0.0
    """Probability below which a cell stays unidentified, unless a run sets another limit; chosen on held-out stains."""
    version: int = 1

    def __post_init__(self) -> None:
        require(
            0 <= self.min_confidence <= 1, f"ModelSpec.min_confidence is {self.min_confidence}: must be between 0 and 1"
        )
        require(self.mpp > 0, f"ModelSpec.mpp is {self.mpp}: must be a positive number of um/px")
        require(self.crop_px % 32 == 0, f"ModelSpec.crop_px is {self.crop_px}: must be a multiple of 32 px")


@dataclass(frozen=True)
class LossSpec:
    """Weights of the loss terms; 0 switches a term off."""

    segmentation: float = 1.0
    """Weight of the outlines of nucleus and cytoplasm."""
    cell_type: float = 1.0
    """Weight of the cell types."""
    alignment: float = 0.2
    """Weight of the saliency alignment, which pulls evidence onto the prior and off the background."""
    centre: float = 0.0
    """Weight of the centre loss on the embeddings; off, since nothing improved with 0.02 (`benchmarks/quality`)."""
    class_weighting: bool = False
    """Weight classes by their effective number of samples, and cells more than background; off, since outlines and
    types got worse with it: the sampling already balances classes (`TrainSpec.balance`)."""
    version: int = 3


TRAIN_PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
"""Lightning's names of the numeric precisions of a training."""


@dataclass(frozen=True)
class TrainSpec:
    """One training run."""

    loss: LossSpec = field(default_factory=LossSpec)
    epochs: int = 40
    """Passes over the training images; at least 1."""
    batch_size: int = 16
    """Images per step; at least 2."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.02
    """Weight decay of AdamW."""
    warmup: float = 0.05
    """Share of the steps during which the learning rate rises, 0 to 1."""
    ema_decay: float = 0.995
    """Decay per step of the moving average of the weights, 0 to below 1; 0 switches it off."""
    patience: int = 0
    """Epochs without a better validation score after which training stops; 0 never stops early."""
    augment: float = 0.5
    """Strength of the stain and intensity augmentation; 1 is strong, 0 switches it off."""
    recolour: float = 0.0
    """Share of examples shown in the colours of an unknown stain, 0 to 1, so that types are learned from shape and
    texture, as unseen stains require. Off: it costs accuracy on known stains."""
    prior_outlines: bool = True
    """Let the prior outline the cells, where it is certain, of images that have neither mask nor boxes."""
    prior_epochs: int = 0
    """Initial epochs in which the network learns from the prior alone, without labels and without seeing the prior."""
    balance: float = 0.5
    """Class balance of the sampling, 0 to 1: 0 samples images evenly, 1 all classes and data sets equally often."""
    precision: str = "auto"
    """Numeric precision: `auto` (the fastest of the GPU or processor), or Lightning's 32-true, bf16-mixed, 16-mixed,
    bf16-true, 16-true or 64-true."""
    workers: int = 0
    """Processes that load images; 0 loads them in the training process."""
    seed: int = 0
    """Seed of weights, sampling and augmentation."""
    version: int = 5

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"TrainSpec.epochs is {self.epochs}: must be at least 1")
        warm = 0 <= self.prior_epochs < self.epochs and (self.prior_outlines or not self.prior_epochs)
        require(
            warm,
            f"TrainSpec.prior_epochs is {self.prior_epochs} of {self.epochs} epochs, prior_outlines "
            f"{self.prior_outlines}: must be fewer than epochs, and 0 where the prior outlines nothing",
        )
        require(self.batch_size >= 2, f"TrainSpec.batch_size is {self.batch_size}: must be at least 2")
        recolours = 0 <= self.recolour <= 1 and (self.augment > 0 or not self.recolour)
        require(
            recolours,
            f"TrainSpec.recolour is {self.recolour}, augment {self.augment}: must be 0 to 1, and 0 if augment is off",
        )
        require(0 <= self.balance <= 1, f"TrainSpec.balance is {self.balance}: must be between 0 and 1")
        require(0 <= self.ema_decay < 1, f"TrainSpec.ema_decay is {self.ema_decay}: must be 0 to below 1")
        require(
            self.precision in TRAIN_PRECISIONS,
            f"TrainSpec.precision is {self.precision!r}: must be one of {', '.join(TRAIN_PRECISIONS)}",
        )


@dataclass(frozen=True)
class EvalSpec:
    """How scores and their intervals are computed."""

    resamples: int = 1000
    """Bootstrap resamples of groups from which intervals are computed; at least 100."""
    confidence: float = 0.95
    """Confidence level of the intervals; more than 0.5, less than 1."""
    calibration_bins: int = 15
    """Bins of the expected calibration error."""
    seed: int = 0
    """Seed of the bootstrap."""
    version: int = 2

    def __post_init__(self) -> None:
        require(
            0.5 < self.confidence < 1, f"EvalSpec.confidence is {self.confidence}: must be more than 0.5, less than 1"
        )
        require(self.resamples >= 100, f"EvalSpec.resamples is {self.resamples}: must be at least 100")


class Perturbation(StrEnum):
    """Changes of an image between one scanner, stain or export and the next."""

    HUE = "hue"
    BRIGHTNESS = "brightness"
    BLUR = "blur"
    JPEG = "jpeg"
    NOISE = "noise"


@dataclass(frozen=True)
class PromotionSpec:
    """What a challenger has to achieve to become champion. Scores and recalls, and limits on them, lie in [0, 1]."""

    margin: float = 0.01
    """How far the challenger's mean score may lie below the champion's, at the interval's lower end."""
    class_margin: float = 0.1
    """How far the recall of any class may fall, at the interval's lower end."""
    class_groups: int = 30
    """Classes that occur in fewer groups (patients or slides) are judged by their recall alone, without an interval."""
    calibration_margin: float = 0.05
    """How far the expected calibration error may rise, at the interval's upper end; below `class_groups` groups,
    without an interval."""
    robustness: tuple[Perturbation, ...] = tuple(Perturbation)
    """Image changes under which both models are scored again."""
    robustness_margin: float = 0.03
    """How far the mean score on changed images may lie below the champion's on the same, at the interval's lower
    end."""
    max_time_ratio: float = 1.5
    """Longest time for the same area, as a multiple of the champion's."""
    max_memory_ratio: float = 1.5
    """Largest memory for the same area, including weights, as a multiple of the champion's."""
    timing_rounds: int = 9
    """How often each model is timed, in turn; the shortest time counts. At least 1."""
    approval: bool = False
    """Whether a person has to approve a challenger that passes, with `sgcldff registry approve`."""
    approve_rare: bool = True
    """Whether a person has to approve it where a class occurs in fewer than `class_groups` groups: so few cases cannot
    show that its recall has not fallen."""
    evaluation: EvalSpec = field(default_factory=lambda: EvalSpec(resamples=5000))
    version: int = 3

    def __post_init__(self) -> None:
        require(self.class_groups >= 2, f"PromotionSpec.class_groups is {self.class_groups}: must be at least 2 groups")
        require(self.timing_rounds >= 1, f"PromotionSpec.timing_rounds is {self.timing_rounds}: must be at least 1")
        for name in ("max_time_ratio", "max_memory_ratio"):
            value = getattr(self, name)
            require(value > 0, f"PromotionSpec.{name} is {value}: must be a positive multiple of the champion's")


class Start(StrEnum):
    """Which weights a retraining starts from."""

    SCRATCH = "scratch"
    """Random or ImageNet weights, depending on `NetSpec.pretrained`."""
    CHAMPION = "champion"
    """The champion's weights, as far as they fit."""


@dataclass(frozen=True)
class DriftSpec:
    """How far new images may be from the champion's; distances lie in [0, 1], and a limit of 1 is never exceeded."""

    stain: float = 0.1
    """Limit for the colour of stained pixels; 0.1 is a shift by about 0.7 standard deviations."""
    prior: float = 0.1
    """Limit for the share of the image that the saliency priors cover; scaled like `stain`."""
    embedding: float = 0.1
    """Limit for the embeddings from which the champion classifies; scaled like `stain`."""
    class_mix: float = 0.2
    """Limit for the proportions of types; 0.2 corresponds to a population stability index of 0.25."""
    chance: float = 0.99
    """Quantile of the distances between subsets of the champion's own images, which must be exceeded too; 0.5 to
    below 1."""
    resamples: int = 200
    """Number of subsets drawn for it; at least 20."""
    min_images: int = 20
    """Fewer new images are not compared; at least 2."""
    min_groups: int = 5
    """New images of fewer patients or slides are not compared, since one patient is no sample; at least 2."""
    seed: int = 0
    """Seed for drawing the subsets."""
    version: int = 2

    def __post_init__(self) -> None:
        for name in ("stain", "prior", "embedding", "class_mix"):
            limit = getattr(self, name)
            require(0 <= limit <= 1, f"DriftSpec.{name} is {limit}: must be between 0 and 1")
        require(0.5 <= self.chance < 1, f"DriftSpec.chance is {self.chance}: must be 0.5 to below 1")
        require(self.resamples >= 20, f"DriftSpec.resamples is {self.resamples}: must be at least 20")
        require(self.min_groups >= 2, f"DriftSpec.min_groups is {self.min_groups}: must be at least 2")
        require(self.min_images >= 2, f"DriftSpec.min_images is {self.min_images}: must be at least 2")


@dataclass(frozen=True)
class RetrainPolicy:
    """When new images justify a retraining; any one reason is enough."""

    new_cells: int = 200
    """Labelled cells that the champion has not been trained on; 200 is one careful manual count."""
    max_age_days: float = 90.0
    """Age of the champion, days, from which any new image is enough; 0: every new image is enough."""
    drift: DriftSpec = field(default_factory=DriftSpec)
    start: Start = Start.SCRATCH
    """Weights to start from; `scratch` takes longer but cannot inherit the errors of an earlier model."""
    version: int = 1

    def __post_init__(self) -> None:
        require(self.new_cells >= 1, f"RetrainPolicy.new_cells is {self.new_cells}: must be at least 1")
        require(self.max_age_days >= 0, f"RetrainPolicy.max_age_days is {self.max_age_days}: must be at least 0")


class Engine(StrEnum):
    """Inference engine."""

    AUTO = "auto"
    """The fastest engine available on this machine."""
    TORCH = "torch"
    COMPILED = "compiled"
    """torch with `torch.compile`, which replays CUDA graphs on a GPU; needs minutes to start, and a C compiler."""
    OPENVINO = "openvino"
    """OpenVINO on the CPU."""


class Precision(StrEnum):
    """Numeric precision of a network."""

    AUTO = "auto"
    """The fastest of the GPU or processor: bf16 if supported in hardware, otherwise fp16 on GPUs with tensor cores, and
    fp32 elsewhere."""
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True)
class GateSpec:
    """Which regions of a slide are read at full resolution: those where the prior at low resolution is high."""

    enabled: bool = True
    """Whether to select regions; off: the whole slide is read."""
    threshold: float = 0.25
    """Score at or above which a region is read; 0 to 1."""
    recall: float = 0.995
    """Share of the white cells that the threshold was chosen to keep; more than 0.5, at most 1."""
    kept: int = 709
    """White cells in labelled images that the threshold kept, ..."""
    calibrated_on: int = 709
    """... of this many; the default was also chosen on these (BCCD, JTSC, ALL-IDB2): at least 99.48 % (exact, 95 %)."""
    mpp: float = 0.8
    """Scale at which the gate views the slide, um/px; rounded to the model's scale times a power of two."""
    margin_um: float = 5.0
    """Margin that is read around a region, um."""
    tile_px: int = 128
    """Side of the cores of the tiles that cover the regions, px at the model's scale; a multiple of 32."""
    smallest_um2: float = 5e4
    """Smaller slides, such as photographs of one field, are read and counted entirely, um2."""
    version: int = 1

    def __post_init__(self) -> None:
        require(0 <= self.threshold <= 1, f"GateSpec.threshold is {self.threshold}: must be between 0 and 1")
        require(0.5 < self.recall <= 1, f"GateSpec.recall is {self.recall}: must be more than 0.5, at most 1")
        require(self.margin_um >= 0, f"GateSpec.margin_um is {self.margin_um}: must be at least 0 um")
        require(self.mpp > 0, f"GateSpec.mpp is {self.mpp}: must be a positive number of um/px")
        require(
            self.tile_px >= 32 and self.tile_px % 32 == 0,
            f"GateSpec.tile_px is {self.tile_px}: must be a multiple of 32 px",
        )


@dataclass(frozen=True)
class InferSpec:
    """How a slide is read; pixel lengths are at the model's mpp."""

    gate: GateSpec = field(default_factory=GateSpec)
    usable_only: bool = True
    """Count cells only in the usable area: neither too thick nor too thin nor out of focus."""
    tile_px: int = 256
    """Side of a tile's core where the whole slide is read, px; a multiple of 32."""
    halo_px: int = 32
    """Margin read around a tile's core and discarded, px; a multiple of 32."""
    shard_px: int = 8192
    """Largest side of the square of tiles that one task reads and writes, px; a multiple of `tile_px`."""
    batch_size: int = 8
    """Tiles per pass of the network; at least 1."""
    engine: Engine = Engine.AUTO
    """Inference engine; `auto` uses the fastest that is available."""
    precision: Precision = Precision.AUTO
    """Numeric precision; `auto` uses bf16 if the processor supports it in hardware, otherwise fp32."""
    min_cell_um2: float = 20.0
    """Smaller objects are not counted as cells, um2."""
    min_confidence: float | None = None
    """Cells below this probability are `unidentified`; 0 to 1, 0 switches the limit off. Unset: the model's own."""
    min_typicality: float = 0.0
    """Cells are also `unidentified` if fewer than this share of held-out cells are as unlike the training cells as they
    are; 0 to 1, 0 switches the limit off."""
    version: int = 4

    def __post_init__(self) -> None:
        aligned = self.tile_px % 32 == 0 and self.halo_px % 32 == 0
        require(aligned, f"InferSpec: tile_px {self.tile_px} and halo_px {self.halo_px} must be multiples of 32 px")
        whole = self.shard_px % self.tile_px == 0
        require(whole, f"InferSpec.shard_px {self.shard_px} must be a multiple of tile_px {self.tile_px}")
        require(self.batch_size >= 1, f"InferSpec.batch_size is {self.batch_size}: must be at least 1")
        for name in ("min_confidence", "min_typicality"):
            limit = getattr(self, name) or 0
            require(0 <= limit <= 1, f"InferSpec.{name} is {limit}: must be between 0 and 1")
