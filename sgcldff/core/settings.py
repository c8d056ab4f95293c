"""Frozen, validated, versioned settings. Lengths are in pixels (px) or microns (um); `mpp` is microns per pixel.

A spec's digest enters every cache key and every output row, so `version` is raised whenever the results of the code
behind a spec change.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from annotated_types import Interval, MultipleOf

from sgcldff.core.errors import InputError
from sgcldff.core.labels import WBC5, LabelSpace
from sgcldff.core.validation import Spec

MODEL_MPP = 0.2
"""Scale (um/px) at which priors and networks see smears; a WBC of 13.5 um is then about 67 px wide."""

STRIDE = 32
"""Networks take images whose sides are multiples of this many px."""

MIN_MPP, MAX_MPP = 0.02, 8.0
"""um/px that a smear can have, wherever a scale is given: 0.25 at 40x, 0.1 at 100x."""
AUTO_MPP: Final = "auto"
"""Given instead of a slide's scale: measure it by the red cells where the file does not state it."""
StatedMpp = float | Literal["auto"] | None
"""What a user says of a slide's scale, um/px; None leaves it to the file."""

MIN_WBC, MAX_WBC = 0.01, 1000.0
"""White cells, 10^9/L, that a blood sample can have."""

CELL_UM = 13.5
"""Width of a typical WBC in a smear, um (usually 12 to 15)."""


def require(holds: bool, message: str) -> None:
    """Raise `InputError(message)` unless `holds`."""
    if not holds:
        raise InputError(message)


Share = Annotated[float, Interval(ge=0, le=1)]
Margin = Annotated[float, Interval(ge=-1, le=1)]
Weight = Annotated[float, Interval(ge=0, le=1e6)]
Ratio = Annotated[float, Interval(gt=0, le=1e3)]
Mpp = Annotated[float, Interval(ge=MIN_MPP, le=MAX_MPP)]
Count = Annotated[int, Interval(ge=1, le=10**9)]
CountOrZero = Annotated[int, Interval(ge=0, le=10**9)]
Seed = Annotated[int, Interval(ge=0, lt=2**32)]
Side = Annotated[int, Interval(ge=STRIDE, le=2**13), MultipleOf(STRIDE)]
"""Side of what a network sees, px."""


def digest(spec: Any) -> str:
    """Hash a frozen dataclass, or a tuple or dict of plain values, to 16 hexadecimal digits."""
    plain = asdict(spec) if is_dataclass(spec) and not isinstance(spec, type) else spec
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested settings by path: `train.loss.centre`."""
    by_path: dict[str, object] = {}
    for key, value in settings.items():
        path = f"{prefix}{key}"
        by_path |= flatten(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return by_path


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
class PriorSpec(Spec):
    """Which saliency priors are computed, and at what scale."""

    names: tuple[str, ...] = ("ramf",)
    """Saliency priors, one input channel each; `ramf` and others of `sgcldff.saliency.priors`."""
    mpp: Mpp = MODEL_MPP
    """Scale at which the priors are computed, um/px; 0.02 to 8."""
    cell_um: Annotated[float, Interval(ge=2, le=60)] = CELL_UM
    """Width of the cells to find, um; 2 to 60."""
    version: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.names) > 0, "PriorSpec.names is empty: name at least one prior")


@dataclass(frozen=True)
class SplitSpec(Spec):
    """How groups of images are assigned to training, validation and test."""

    val: Annotated[float, Interval(ge=0, lt=1)] = 0.15
    """Share of the groups for validation, 0 to below 1."""
    test: Annotated[float, Interval(ge=0, lt=1)] = 0.15
    """Share of the groups for the test split, 0 to below 1; `val` and `test` together below 1."""
    seed: Seed = 0
    """Seed of the assignment."""
    version: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        together = self.val + self.test < 1
        require(together, f"SplitSpec shares val={self.val}, test={self.test}: must be below 1 together")


@dataclass(frozen=True)
class IngestSpec(Spec):
    """Which images ingest accepts, and how it finds near-duplicates."""

    labels: LabelSpace | None = None
    """Accepted labels: `classes`, and `coarse` labels with the classes that they may mean. Unset: all known labels."""
    split: SplitSpec = field(default_factory=SplitSpec)
    min_side_px: Count = 32
    """Images with a shorter side are skipped, px; at least 1."""
    hash_distance: Annotated[int, Interval(ge=0, le=16)] = 6
    """Two images whose perceptual hashes (64 bit) differ in at most this many bits may be near-duplicates; 0 to 16."""
    min_similarity: Share = 0.28
    """Images whose shift-invariant fingerprints have at least this cosine similarity may be, too; 0 to 1."""
    min_correlation: Share = 0.74
    """Of these pairs, those whose overlapping parts correlate at least this much are near-duplicates; 0 to 1."""
    version: int = 2


@dataclass(frozen=True)
class NetSpec(Spec):
    """A network, and the parts of SG-CLDFF that are switched on."""

    name: str = "sgcldff"
    """Network: `sgcldff`, or a baseline such as `unet`, from `sgcldff.models.nets`."""
    backbone: str = "tf_efficientnet_lite0"
    """timm EfficientNet whose stages form the convolutional part of the encoder."""
    pretrained: Pretrained = Pretrained.AUTO
    """Whether the encoder starts from ImageNet weights: `auto` (if a package has them), `required`, or `off`."""
    mixing: Mixing = Mixing.HYBRID
    """Building blocks of the encoder's deep stages: `hybrid`, `convolution` or `swin`."""
    convolutions: Annotated[int, Interval(ge=2, le=4)] = 4
    """Convolutional stages of a hybrid encoder (strides 2, 4, 8, 16); Swin blocks form the rest."""
    fusion_width: Annotated[int, Interval(ge=1, le=4096)] = 96
    """Channels of the fused features."""
    cardinality: Count = 8
    """Groups of the fusion convolutions; must divide `fusion_width`."""
    prior_input: bool = True
    """Feed the prior to the encoder as extra channels."""
    prior_gate: bool = True
    """Let the prior gate the features at every fused level."""
    cross_layer_fusion: bool = True
    """Fuse shallow and deep features; off: only upsample the deepest features."""
    version: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        divides = self.fusion_width % self.cardinality == 0
        require(
            divides, f"NetSpec.fusion_width {self.fusion_width} must be a multiple of cardinality {self.cardinality}"
        )


@dataclass(frozen=True)
class ModelSpec(Spec):
    """Everything besides the weights that is needed to run a trained network."""

    net: NetSpec = field(default_factory=NetSpec)
    prior: PriorSpec = field(default_factory=PriorSpec)
    labels: LabelSpace = WBC5
    mpp: Mpp = MODEL_MPP
    """um/px of the images that the network sees."""
    crop_px: Side = 128
    """Side of the crop, centred on a cell, from which the cell is classified, px."""
    imagenet: str = ""
    """Package, version and licence of the ImageNet weights that training started from; empty if there were none."""
    calibrated: str = ""
    """How `sgcldff calibrate` fitted the types to a laboratory, and the digest of the original; empty if it did not."""
    min_confidence: Share = 0.0
    """Probability of a cell's broader type (any neutrophil, any immature granulocyte) below which it is unidentified,
    unless a run sets another limit; chosen on held-out stains."""
    version: int = 1


@dataclass(frozen=True)
class LossSpec(Spec):
    """Weights of the loss terms; 0 switches a term off."""

    segmentation: Weight = 1.0
    """Weight of the outlines of nucleus and cytoplasm."""
    cell_type: Weight = 1.0
    """Weight of the cell types."""
    alignment: Weight = 0.2
    """Weight of the saliency alignment, which pulls evidence onto the prior and off the background."""
    centre: Weight = 0.0
    """Weight of the centre loss on the embeddings; off, since nothing improved with 0.02 (`benchmarks/quality`)."""
    class_weighting: bool = False
    """Weight classes by their effective number of samples, and cells more than background; off, since outlines and
    types got worse with it: the sampling already balances classes (`TrainSpec.balance`)."""
    version: int = 3


TRAIN_PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
"""Lightning's names of the numeric precisions of a training."""


@dataclass(frozen=True)
class TrainSpec(Spec):
    """One training run."""

    loss: LossSpec = field(default_factory=LossSpec)
    epochs: Count = 40
    """Passes over the training images; at least 1."""
    batch_size: Annotated[int, Interval(ge=2, le=10**6)] = 16
    """Images per step; at least 2."""
    learning_rate: Annotated[float, Interval(gt=0, le=10)] = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Interval(ge=0, le=10)] = 0.02
    """Weight decay of AdamW."""
    warmup: Share = 0.05
    """Share of the steps during which the learning rate rises, 0 to 1."""
    ema_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.995
    """Decay per step of the moving average of the weights, 0 to below 1; 0 switches it off."""
    patience: CountOrZero = 0
    """Epochs without a better validation score after which training stops; 0 never stops early."""
    augment: Annotated[float, Interval(ge=0, le=10)] = 0.5
    """Strength of the stain and intensity augmentation; 1 is strong, 0 switches it off."""
    recolour: Share = 0.0
    """Share of examples shown in the colours of an unknown stain, 0 to 1, so that types are learned from shape and
    texture, as unseen stains require. Off: it costs accuracy on known stains."""
    prior_outlines: bool = True
    """Let the prior outline the cells, where it is certain, of images that have neither mask nor boxes."""
    prior_epochs: CountOrZero = 0
    """Initial epochs in which the network learns from the prior alone, without labels and without seeing the prior."""
    balance: Share = 0.5
    """Class balance of the sampling, 0 to 1: 0 samples images evenly, 1 all classes and data sets equally often."""
    precision: str = "auto"
    """Numeric precision: `auto` (the fastest of the GPU or processor), or Lightning's 32-true, bf16-mixed, 16-mixed,
    bf16-true, 16-true or 64-true."""
    doubted_labels: tuple[str, ...] = ()
    """Labels, as data set/type, from which types are not learned, since too many are wrong; masks of such images are
    used all the same, and evaluations count the labels. Name `bccd/eosinophil` where another data set has eosinophils:
    many of BCCD's are neutrophils."""
    workers: Annotated[int, Interval(ge=0, le=1024)] = 0
    """Processes that load images; 0 loads them in the training process."""
    seed: Seed = 0
    """Seed of weights, sampling and augmentation."""
    version: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        warm = self.prior_epochs < self.epochs and (self.prior_outlines or not self.prior_epochs)
        require(
            warm,
            f"TrainSpec.prior_epochs is {self.prior_epochs} of {self.epochs} epochs, prior_outlines "
            f"{self.prior_outlines}: must be fewer than epochs, and 0 where the prior outlines nothing",
        )
        for label in self.doubted_labels:
            require("/" in label, f"TrainSpec.doubted_labels has {label!r}: give data set/type, as in bccd/eosinophil")
        require(
            self.augment > 0 or not self.recolour,
            f"TrainSpec.recolour is {self.recolour}, augment {self.augment}: must be 0 if augment is off",
        )
        require(
            self.precision in TRAIN_PRECISIONS,
            f"TrainSpec.precision is {self.precision!r}: must be one of {', '.join(TRAIN_PRECISIONS)}",
        )


@dataclass(frozen=True)
class EvalSpec(Spec):
    """How scores and their intervals are computed."""

    resamples: Annotated[int, Interval(ge=100, le=10**6)] = 1000
    """Bootstrap resamples of groups from which intervals are computed; at least 100."""
    confidence: Annotated[float, Interval(gt=0.5, lt=1)] = 0.95
    """Confidence level of the intervals; more than 0.5, less than 1."""
    calibration_bins: Count = 15
    """Bins of the expected calibration error."""
    seed: Seed = 0
    """Seed of the bootstrap."""
    version: int = 3


class Perturbation(StrEnum):
    """Changes of an image between one scanner, stain or export and the next."""

    HUE = "hue"
    BRIGHTNESS = "brightness"
    BLUR = "blur"
    JPEG = "jpeg"
    NOISE = "noise"


@dataclass(frozen=True)
class PromotionSpec(Spec):
    """What a challenger has to achieve to become champion. Scores and recalls, and limits on them, lie in [0, 1]."""

    margin: Margin = 0.01
    """How far the challenger's mean score may lie below the champion's, at the interval's lower end."""
    class_margin: Margin = 0.1
    """How far the recall of any class may fall, at the interval's lower end."""
    class_groups: Annotated[int, Interval(ge=2, le=10**9)] = 30
    """Classes that occur in fewer groups (patients or slides) are judged by their recall alone, without an interval."""
    calibration_margin: Margin = 0.05
    """How far the expected calibration error may rise, at the interval's upper end; below `class_groups` groups,
    without an interval."""
    robustness: tuple[Perturbation, ...] = tuple(Perturbation)
    """Image changes under which both models are scored again."""
    robustness_margin: Margin = 0.03
    """How far the mean score on changed images may lie below the champion's on the same, at the interval's lower
    end."""
    max_time_ratio: Ratio = 1.5
    """Longest time for the same area, as a multiple of the champion's."""
    max_memory_ratio: Ratio = 1.5
    """Largest memory for the same area, including weights, as a multiple of the champion's."""
    timing_rounds: Count = 9
    """How often each model is timed, in turn; the shortest time counts. At least 1."""
    approval: bool = False
    """Whether a person has to approve a challenger that passes, with `sgcldff registry approve`."""
    approve_rare: bool = True
    """Whether a person has to approve it where a class occurs in fewer than `class_groups` groups: so few cases cannot
    show that its recall has not fallen."""
    evaluation: EvalSpec = field(default_factory=lambda: EvalSpec(resamples=5000))
    version: int = 3


class Start(StrEnum):
    """Which weights a retraining starts from."""

    SCRATCH = "scratch"
    """Random or ImageNet weights, depending on `NetSpec.pretrained`."""
    CHAMPION = "champion"
    """The champion's weights, as far as they fit."""


@dataclass(frozen=True)
class DriftSpec(Spec):
    """How far new images may be from the champion's; distances lie in [0, 1], and a limit of 1 is never exceeded."""

    stain: Share = 0.1
    """Limit for the colour of stained pixels; 0.1 is a shift by about 0.7 standard deviations."""
    prior: Share = 0.1
    """Limit for the share of the image that the saliency priors cover; scaled like `stain`."""
    embedding: Share = 0.1
    """Limit for the embeddings from which the champion classifies; scaled like `stain`."""
    class_mix: Share = 0.2
    """Limit for the proportions of types; 0.2 corresponds to a population stability index of 0.25."""
    chance: Annotated[float, Interval(ge=0.5, lt=1)] = 0.99
    """Quantile of the distances between subsets of the champion's own images, which must be exceeded too; 0.5 to
    below 1."""
    resamples: Annotated[int, Interval(ge=20, le=10**6)] = 200
    """Number of subsets drawn for it; at least 20."""
    min_images: Annotated[int, Interval(ge=2, le=10**9)] = 20
    """Fewer new images are not compared; at least 2."""
    min_groups: Annotated[int, Interval(ge=2, le=10**9)] = 5
    """New images of fewer patients or slides are not compared, since one patient is no sample; at least 2."""
    seed: Seed = 0
    """Seed for drawing the subsets."""
    version: int = 2


@dataclass(frozen=True)
class RetrainPolicy(Spec):
    """When new images justify a retraining; any one reason is enough."""

    new_cells: Count = 200
    """Labelled cells that the champion has not been trained on; 200 is one careful manual count."""
    max_age_days: Annotated[float, Interval(ge=0, le=1e5)] = 90.0
    """Age of the champion, days, from which any new image is enough; 0: every new image is enough."""
    drift: DriftSpec = field(default_factory=DriftSpec)
    start: Start = Start.SCRATCH
    """Weights to start from; `scratch` takes longer but cannot inherit the errors of an earlier model."""
    version: int = 1


@dataclass(frozen=True)
class ReportSpec(Spec):
    """What reports add to the figures of a slide; changes no figure, and no cell is computed again."""

    reference: str | None = None
    """TOML file of the laboratory's reference intervals, which mark what lies outside (docs/guide/slides.md)."""
    nrbc_excluded: bool = False
    """Whether the analyser's white counts leave nucleated red cells out: they are then not corrected for them."""
    version: int = 1


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
class GateSpec(Spec):
    """Which regions of a slide are read at full resolution: those where the prior at low resolution is high."""

    enabled: bool = True
    """Whether to select regions; off: the whole slide is read."""
    threshold: Share = 0.25
    """Score at or above which a region is read; 0 to 1."""
    recall: Annotated[float, Interval(gt=0.5, le=1)] = 0.995
    """Share of the white cells that the threshold was chosen to keep; more than 0.5, at most 1."""
    kept: CountOrZero = 709
    """White cells in labelled images that the threshold kept, ..."""
    calibrated_on: CountOrZero = 709
    """... of this many; the default was also chosen on these (BCCD, JTSC, ALL-IDB2): at least 99.48 % (exact, 95 %)."""
    mpp: Mpp = 0.8
    """Scale at which the gate views the slide, um/px; rounded to the model's scale times a power of two."""
    margin_um: Annotated[float, Interval(ge=0, le=1e3)] = 5.0
    """Margin that is read around a region, um."""
    tile_px: Side = 128
    """Side of the cores of the tiles that cover the regions, px at the model's scale; a multiple of 32."""
    smallest_um2: Annotated[float, Interval(ge=0, le=1e12)] = 5e4
    """Smaller slides, such as photographs of one field, are read and counted entirely, um2."""
    version: int = 2


@dataclass(frozen=True)
class InferSpec(Spec):
    """How a slide is read; pixel lengths are at the model's mpp."""

    gate: GateSpec = field(default_factory=GateSpec)
    usable_only: bool = True
    """Count cells only in the usable area: neither too thick nor too thin nor out of focus."""
    tile_px: Side = 256
    """Side of a tile's core where the whole slide is read, px; a multiple of 32."""
    halo_px: Annotated[int, Interval(ge=0, le=2**13), MultipleOf(STRIDE)] = 32
    """Margin read around a tile's core and discarded, px; a multiple of 32."""
    shard_px: Annotated[int, Interval(ge=STRIDE, le=2**20), MultipleOf(STRIDE)] = 8192
    """Largest side of the square of tiles that one task reads and writes, px; a multiple of `tile_px`."""
    batch_size: Count = 8
    """Tiles per pass of the network; at least 1."""
    engine: Engine = Engine.AUTO
    """Inference engine; `auto` uses the fastest that is available."""
    precision: Precision = Precision.AUTO
    """Numeric precision; `auto` uses bf16 if the processor supports it in hardware, otherwise fp32."""
    min_cell_um2: Annotated[float, Interval(ge=0, le=1e4)] = 20.0
    """Smaller objects are not counted as cells, um2."""
    min_confidence: Share | None = None
    """Cells whose broader type (any neutrophil, any immature granulocyte) is less probable are `unidentified`; 0 to 1,
    0 switches the limit off. Unset: the model's own."""
    min_typicality: Share = 0.0
    """Cells are also `unidentified` if fewer than this share of held-out cells are as unlike the training cells as they
    are; 0 to 1, 0 switches the limit off."""
    min_on_cell: Annotated[float, Interval(ge=-1, le=1)] = -1.0
    """Cells are also `unidentified` if less of the evidence for their type lies on them: 1 is all of it, 0 as much as
    by chance; -1 switches the limit off."""
    embeddings: bool = False
    """Keep each cell's embedding, the features from which it was classified, in the table of cells."""
    version: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = self.shard_px % self.tile_px == 0
        require(whole, f"InferSpec.shard_px {self.shard_px} must be a multiple of tile_px {self.tile_px}")
