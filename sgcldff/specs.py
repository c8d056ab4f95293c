"""Frozen, validated, versioned settings. Lengths are in pixels (px) or microns (um); `mpp` is microns per pixel.

A spec's digest enters every cache key and every output row, so `version` is raised whenever the code behind a spec
changes its results.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, is_dataclass
from enum import StrEnum
from typing import Any

from sgcldff.errors import InputError
from sgcldff.labels import WBC5, LabelSpace

MODEL_MPP = 0.2
"""Scale (um/px) at which smears are seen by priors and networks; a WBC of 13.5 um is then about 67 px wide."""

STRIDE = 32
"""Networks take sides that are multiples of this many px."""

CELL_UM = 13.5
"""Width of a typical WBC in a smear, in um (12-15 in life)."""


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
    """Use them where a package with them is installed, otherwise start from random weights and say so."""
    REQUIRED = "required"
    """Fail where none is installed."""
    OFF = "off"
    """Start from random weights."""


class Mixing(StrEnum):
    """What the deep stages of the encoder are made of."""

    HYBRID = "hybrid"
    CONVOLUTION = "convolution"
    SWIN = "swin"


@dataclass(frozen=True)
class PriorSpec:
    """Which saliency priors are computed, and at what scale."""

    names: tuple[str, ...] = ("ramf",)
    """Names in the registry of `sgcldff.priors`; one channel each."""
    mpp: float = MODEL_MPP
    """um/px at which the priors are computed."""
    cell_um: float = CELL_UM
    """Width of the cells sought, um."""
    version: int = 1

    def __post_init__(self) -> None:
        require(len(self.names) > 0, "PriorSpec.names is empty: name at least one prior")
        require(0.02 <= self.mpp <= 8, f"PriorSpec.mpp is {self.mpp}: give 0.02 to 8 um/px")
        require(2 <= self.cell_um <= 60, f"PriorSpec.cell_um is {self.cell_um}: give 2 to 60 um")


@dataclass(frozen=True)
class SplitSpec:
    """How groups of images are dealt to train, validation and test."""

    val: float = 0.15
    test: float = 0.15
    seed: int = 0
    version: int = 1

    def __post_init__(self) -> None:
        inside = self.val >= 0 and self.test >= 0 and self.val + self.test < 1
        require(inside, f"SplitSpec shares val={self.val}, test={self.test}: both at least 0, together below 1")


@dataclass(frozen=True)
class IngestSpec:
    """What ingest accepts and how it finds near-duplicates."""

    labels: LabelSpace | None = None
    """Labels to accept; None accepts all that the presets know."""
    split: SplitSpec = field(default_factory=SplitSpec)
    min_side_px: int = 32
    """Images with a shorter side are set aside."""
    hash_distance: int = 6
    """Perceptual hashes (64 bit) up to this many bits apart make two images candidates for near-duplicates."""
    min_similarity: float = 0.28
    """Fingerprints that do not change under shifts, with at least this cosine, make candidates too."""
    min_correlation: float = 0.74
    """Candidates whose overlapping parts correlate at least this much are near-duplicates."""
    version: int = 1

    def __post_init__(self) -> None:
        require(0 <= self.hash_distance <= 16, f"IngestSpec.hash_distance is {self.hash_distance}: give 0 to 16 bits")
        require(self.min_side_px >= 1, f"IngestSpec.min_side_px is {self.min_side_px}: give at least 1 px")


@dataclass(frozen=True)
class NetSpec:
    """A network and the parts of SG-CLDFF that are switched on."""

    name: str = "sgcldff"
    """Name in the registry of `sgcldff.nets`."""
    backbone: str = "tf_efficientnet_lite0"
    """timm EfficientNet whose stages make the convolutional part of the encoder."""
    pretrained: Pretrained = Pretrained.AUTO
    mixing: Mixing = Mixing.HYBRID
    convolutions: int = 3
    """Convolutional stages of a hybrid encoder (strides 2, 4, 8, 16); Swin blocks make up the rest."""
    fusion_width: int = 96
    """Channels of the fused features."""
    cardinality: int = 8
    """Groups of the fusion's convolutions; divides `fusion_width`."""
    prior_input: bool = True
    """Feed the prior to the encoder as further channels."""
    prior_gate: bool = True
    """Let the prior gate the features at every fused level."""
    cross_layer_fusion: bool = True
    """Fuse shallow and deep features; off: the deepest features alone are enlarged."""
    version: int = 3

    def __post_init__(self) -> None:
        require(2 <= self.convolutions <= 4, f"NetSpec.convolutions is {self.convolutions}: give 2 to 4 of 5 stages")
        divides = self.cardinality >= 1 and self.fusion_width % self.cardinality == 0
        require(
            divides, f"NetSpec.fusion_width {self.fusion_width} must be a multiple of cardinality {self.cardinality}"
        )


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed, beside the weights, to run a trained network."""

    net: NetSpec = field(default_factory=NetSpec)
    prior: PriorSpec = field(default_factory=PriorSpec)
    labels: LabelSpace = WBC5
    mpp: float = MODEL_MPP
    """um/px of the images that the network sees."""
    crop_px: int = 128
    """Side of the crop, centred on a cell, from which its type is told."""
    imagenet: str = ""
    """Package, version and licence of the ImageNet weights that the training began with; empty if there were none."""
    version: int = 1

    def __post_init__(self) -> None:
        require(self.mpp > 0, f"ModelSpec.mpp is {self.mpp}: give a positive number of um/px")
        require(self.crop_px % 32 == 0, f"ModelSpec.crop_px is {self.crop_px}: give a multiple of 32 px")


@dataclass(frozen=True)
class LossSpec:
    """Weights of the loss terms; 0 switches a term off."""

    segmentation: float = 1.0
    cell_type: float = 1.0
    alignment: float = 0.2
    """Saliency alignment: evidence is pulled onto the prior and off the background."""
    centre: float = 0.0
    """Centre loss on the embeddings; off, since at 0.02 nothing was better with it (`benchmarks/quality`)."""
    class_weighting: bool = False
    """Weigh classes by their effective number of samples, and cells more than background; off, since outlines and types
    were worse with it: the sampling balances classes already (`TrainSpec.balance`)."""
    version: int = 3


@dataclass(frozen=True)
class TrainSpec:
    """One training run."""

    loss: LossSpec = field(default_factory=LossSpec)
    epochs: int = 40
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.05
    """Share of the steps during which the learning rate rises."""
    ema_decay: float = 0.995
    """Decay of the moving average of the weights, a step; 0 switches it off."""
    patience: int = 0
    """Epochs without a better validation score before training stops; 0 never stops early."""
    augment: float = 0.5
    """Strength of the stain and intensity augmentation; 0 switches it off."""
    recolour: float = 0.0
    """Share of examples shown in the colours of a stain unlike any known: types are then told from shape and texture,
    as they have to be on stains never seen. Off: types of the stains that are known are told less well with it."""
    prior_outlines: bool = True
    """Let the prior, where it is sure, outline the cells of images that have neither mask nor boxes."""
    prior_epochs: int = 0
    """First epochs in which the network is not shown the prior and learns from it alone: a warm-up without labels."""
    balance: float = 0.5
    """Class balance of the sampling: 0 as the data are, 1 all classes and data sets alike."""
    precision: str = "auto"
    """`auto` (bf16 where the GPU has it, else 32-true), or a Lightning precision."""
    workers: int = 0
    """Processes that load data beside the training; 0 loads in the training process."""
    seed: int = 0
    version: int = 4

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"TrainSpec.epochs is {self.epochs}: give at least 1")
        warm = 0 <= self.prior_epochs < self.epochs and (self.prior_outlines or not self.prior_epochs)
        require(
            warm,
            f"TrainSpec.prior_epochs is {self.prior_epochs} of {self.epochs} epochs, prior_outlines "
            f"{self.prior_outlines}: give fewer than epochs, and 0 where the prior outlines nothing",
        )
        require(self.batch_size >= 2, f"TrainSpec.batch_size is {self.batch_size}: give at least 2")
        recolours = 0 <= self.recolour <= 1 and (self.augment > 0 or not self.recolour)
        require(
            recolours,
            f"TrainSpec.recolour is {self.recolour}, augment {self.augment}: give 0 to 1, and 0 where augment is off",
        )
        require(0 <= self.balance <= 1, f"TrainSpec.balance is {self.balance}: give 0 to 1")
        require(0 <= self.ema_decay < 1, f"TrainSpec.ema_decay is {self.ema_decay}: give 0 to below 1")


@dataclass(frozen=True)
class EvalSpec:
    """How scores and their intervals are computed."""

    resamples: int = 1000
    confidence: float = 0.95
    calibration_bins: int = 15
    seed: int = 0
    version: int = 2

    def __post_init__(self) -> None:
        require(0.5 < self.confidence < 1, f"EvalSpec.confidence is {self.confidence}: give more than 0.5, less than 1")
        require(self.resamples >= 100, f"EvalSpec.resamples is {self.resamples}: give at least 100")


class Perturbation(StrEnum):
    """What happens to images between one scanner, stain or export and the next."""

    HUE = "hue"
    BRIGHTNESS = "brightness"
    BLUR = "blur"
    JPEG = "jpeg"
    NOISE = "noise"


@dataclass(frozen=True)
class PromotionSpec:
    """What a challenger has to show to become champion. Scores and recalls lie in [0, 1], and so do limits on them."""

    margin: float = 0.01
    """How far the challenger's mean score may lie below the champion's, at the interval's lower end."""
    class_margin: float = 0.1
    """How far the recall of any one class may fall, at the interval's lower end."""
    class_groups: int = 30
    """Groups (patients or slides) with a class below which its recall, told without an interval, decides."""
    calibration_margin: float = 0.05
    """How far the expected calibration error may rise, at the upper end; without an interval below `class_groups`."""
    robustness: tuple[Perturbation, ...] = tuple(Perturbation)
    """Changes of the images under which both models are scored again."""
    robustness_margin: float = 0.03
    """How far the mean score on changed images may lie below the champion's on the same, at the lower end."""
    max_time_ratio: float = 1.5
    """Longest time for the same area, as a multiple of the champion's."""
    max_memory_ratio: float = 1.5
    """Largest memory, weights included, for the same area, as a multiple of the champion's."""
    timing_rounds: int = 9
    """Times that each model is timed, in turns; the shortest counts."""
    approval: bool = False
    """A person has to approve what passes, with `sgcldff registry approve`."""
    evaluation: EvalSpec = field(default_factory=EvalSpec)
    version: int = 2

    def __post_init__(self) -> None:
        require(self.class_groups >= 2, f"PromotionSpec.class_groups is {self.class_groups}: give at least 2 groups")
        require(self.timing_rounds >= 1, f"PromotionSpec.timing_rounds is {self.timing_rounds}: give at least 1")
        for name in ("max_time_ratio", "max_memory_ratio"):
            value = getattr(self, name)
            require(value > 0, f"PromotionSpec.{name} is {value}: give a positive multiple of the champion's")


class Start(StrEnum):
    """Which weights a retraining begins with."""

    SCRATCH = "scratch"
    """Random or ImageNet weights, as `NetSpec.pretrained` says."""
    CHAMPION = "champion"
    """Those of the champion, as far as they fit."""


@dataclass(frozen=True)
class DriftSpec:
    """How far new images may be from the champion's; distances lie in [0, 1], and a limit of 1 is never exceeded."""

    stain: float = 0.1
    """Colour of what is stained; 0.1 is a shift by about 0.7 standard deviations."""
    prior: float = 0.1
    """Share of the image that the saliency priors cover; scaled as `stain`."""
    embedding: float = 0.1
    """What the champion tells types from; scaled as `stain`."""
    class_mix: float = 0.2
    """Shares of the types; 0.2 is what a population stability index of 0.25 calls changed."""
    chance: float = 0.99
    """Quantile of the distances between parts of the champion's own images that has to be exceeded, too."""
    resamples: int = 200
    """Parts that are drawn for it."""
    min_images: int = 20
    """Fewer new images are not compared."""
    seed: int = 0
    version: int = 1

    def __post_init__(self) -> None:
        for name in ("stain", "prior", "embedding", "class_mix"):
            limit = getattr(self, name)
            require(0 <= limit <= 1, f"DriftSpec.{name} is {limit}: give 0 to 1")
        require(0.5 <= self.chance < 1, f"DriftSpec.chance is {self.chance}: give 0.5 to below 1")
        require(self.resamples >= 20, f"DriftSpec.resamples is {self.resamples}: give at least 20")
        require(self.min_images >= 2, f"DriftSpec.min_images is {self.min_images}: give at least 2")


@dataclass(frozen=True)
class RetrainPolicy:
    """When new images are worth a training; any one reason is enough."""

    new_cells: int = 200
    """Labelled cells that the champion did not know when it was trained; what one careful count by eye comprises."""
    max_age_days: float = 90.0
    """Age of the champion from which on any new image is enough; 0 lets every new image be enough."""
    drift: DriftSpec = field(default_factory=DriftSpec)
    start: Start = Start.SCRATCH
    """Starting from scratch takes longer and cannot inherit what a former model had wrong."""
    version: int = 1

    def __post_init__(self) -> None:
        require(self.new_cells >= 1, f"RetrainPolicy.new_cells is {self.new_cells}: give at least 1")
        require(self.max_age_days >= 0, f"RetrainPolicy.max_age_days is {self.max_age_days}: give at least 0")


class Engine(StrEnum):
    """What runs a network."""

    AUTO = "auto"
    """The fastest that this machine has."""
    TORCH = "torch"
    COMPILED = "compiled"
    """torch with `torch.compile`, which replays CUDA graphs on a GPU; takes minutes to start, and a C compiler."""
    OPENVINO = "openvino"
    """OpenVINO on the CPU."""


class Precision(StrEnum):
    """Numbers that a network computes with."""

    AUTO = "auto"
    """bf16 where the processor computes with it in hardware, otherwise fp32."""
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True)
class GateSpec:
    """Which places of a slide are read at full resolution: those where the prior, seen from afar, is high."""

    enabled: bool = True
    """Off: everything is read."""
    threshold: float = 0.25
    """Score, 0 to 1, at or above which a place is read."""
    recall: float = 0.995
    """Share of the white cells that the threshold was chosen to keep."""
    kept: int = 709
    """White cells of labelled images that it was seen to keep, ..."""
    calibrated_on: int = 709
    """... of this many; those of the default chose it too (BCCD, JTSC, ALL-IDB2): at least 99.48 % (exact, 95 %)."""
    mpp: float = 0.8
    """um/px at which the slide is looked at; brought to the model's, doubled as often as comes nearest."""
    margin_um: float = 5.0
    """Room that is read around a place."""
    tile_px: int = 128
    """Side of the cores of the tiles that are laid over such places, px at the model's mpp; a multiple of 32."""
    smallest_um2: float = 5e4
    """Smaller slides, photographs of a field or a cell, are read and counted whole: statistics need a smear."""
    version: int = 1

    def __post_init__(self) -> None:
        require(0 <= self.threshold <= 1, f"GateSpec.threshold is {self.threshold}: give 0 to 1")
        require(0.5 < self.recall <= 1, f"GateSpec.recall is {self.recall}: give more than 0.5, at most 1")
        require(self.margin_um >= 0, f"GateSpec.margin_um is {self.margin_um}: give at least 0 um")
        require(self.mpp > 0, f"GateSpec.mpp is {self.mpp}: give a positive number of um/px")
        require(
            self.tile_px >= 32 and self.tile_px % 32 == 0,
            f"GateSpec.tile_px is {self.tile_px}: give a multiple of 32 px",
        )


@dataclass(frozen=True)
class InferSpec:
    """How a slide is read; pixel lengths are at the model's mpp."""

    gate: GateSpec = field(default_factory=GateSpec)
    usable_only: bool = True
    """Count cells only where the smear can be read: neither too thick nor too thin nor out of focus."""
    tile_px: int = 256
    """Side of the core that a tile contributes where everything is read; a multiple of 32."""
    halo_px: int = 32
    """Margin read around a tile's core and thrown away; a multiple of 32."""
    shard_px: int = 8192
    """Largest side of the square of tiles that one task reads and writes; a multiple of `tile_px`."""
    batch_size: int = 8
    engine: Engine = Engine.AUTO
    precision: Precision = Precision.AUTO
    min_cell_um2: float = 20.0
    """Smaller objects are not counted as cells."""
    min_confidence: float = 0.0
    """Cells below this probability are `unidentified`."""
    min_typicality: float = 0.0
    """Cells are `unidentified`, too, if fewer than this share of the cells held out of the training are as unlike the
    training cells as they are (`sgcldff.typicality`); 0 switches the limit off."""
    version: int = 3

    def __post_init__(self) -> None:
        aligned = self.tile_px % 32 == 0 and self.halo_px % 32 == 0
        require(aligned, f"InferSpec: tile_px {self.tile_px} and halo_px {self.halo_px} must be multiples of 32 px")
        whole = self.shard_px % self.tile_px == 0
        require(whole, f"InferSpec.shard_px {self.shard_px} must be a multiple of tile_px {self.tile_px}")
        require(self.batch_size >= 1, f"InferSpec.batch_size is {self.batch_size}: give at least 1")
        for name in ("min_confidence", "min_typicality"):
            limit = getattr(self, name)
            require(0 <= limit <= 1, f"InferSpec.{name} is {limit}: give 0 to 1")
