"""Training of any network on any combination of data sets, resumable at every step."""

import logging
import math
import signal
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import SumMetric

from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.label_codes import BACKGROUND, MAY_BE_BACKGROUND, MAY_BE_NUCLEUS, NUCLEUS
from sgcldff.core.records import Sample, Split
from sgcldff.core.settings import ModelSpec, Precision, TrainSpec, require
from sgcldff.models.checkpoint import open_spec
from sgcldff.models.model import Model, save_model
from sgcldff.models.nets import Prediction, build, imagenet_origin
from sgcldff.models.nets.base import Network
from sgcldff.models.runtimes.hardware import emulation_caution, fastest_precision, gpu_usable
from sgcldff.models.training.batches import SmearDataModule, without_labels
from sgcldff.models.training.examples import Example
from sgcldff.models.training.losses import SmearLoss, class_weights
from sgcldff.models.training.teacher import Teacher
from sgcldff.models.training.warm_start import Inherited, WarmStart, start_from_parent
from sgcldff.saliency.store import PriorStore

logger = logging.getLogger(__name__)

SCORE = "val/score"
"""The criterion for the best checkpoint: mean of cell IoU, nucleus IoU and accuracy on the validation split."""

LAST_CHECKPOINT = "last"
"""Name of the checkpoint to resume from."""

CHECKPOINT_STEPS = 100
"""Steps between checkpoints to resume from; every epoch ends with one, too."""

PRECISION_FILE = "precision.txt"
"""Numeric precision of a run, recorded at its start, so that it resumes with the same on another machine."""

LOG_STEPS = 10
"""Steps between logged losses, if an epoch has as many."""


class SmearModule(lightning.LightningModule):
    """A network with its losses, validation counts and optimiser."""

    def __init__(self, net: nn.Module, train: TrainSpec, weights: Tensor) -> None:
        super().__init__()
        self.spec = train
        self.net = net.to(memory_format=torch.channels_last)
        self.loss = SmearLoss(train.loss, weights, cast(Network, self.net).embedding_width)
        self.counts = nn.ModuleDict({name: SumMetric() for name in COUNTS})

    def on_train_batch_start(self, batch: Example, batch_idx: int) -> None:
        """Seed dropout by the step, so that a resumed run equals an uninterrupted one."""
        torch.manual_seed(1_000_003 * self.spec.seed + self.global_step)

    def training_step(self, batch: Example, batch_idx: int) -> Tensor:
        """Return the loss of a batch and log its terms."""
        terms = self.loss(self.net(batch.image, batch.prior), batch.prior, batch.target, batch.allowed)
        parts = {f"train/{name}": getattr(terms, name).detach() for name in terms.__dataclass_fields__}
        self.log_dict(parts, batch_size=len(batch.image))
        self.log("train/loss", terms.total.detach(), prog_bar=True, batch_size=len(batch.image))
        return cast(Tensor, terms.total)

    def validation_step(self, batch: Example, batch_idx: int) -> None:
        """Add a batch to the validation counts."""
        for name, count in validation_counts(self.net(batch.image, batch.prior), batch).items():
            cast(SumMetric, self.counts[name]).update(count)

    def on_validation_epoch_end(self) -> None:
        """Log cell IoU, nucleus IoU and accuracy, as far as the split has targets for them, and their mean."""
        totals = {name: float(cast(SumMetric, count).compute()) for name, count in self.counts.items()}
        for count in self.counts.values():
            cast(SumMetric, count).reset()
        scores = {f"val/{name}": totals[part] / totals[whole] for name, part, whole in RATIOS if totals[whole] > 0}
        mean = sum(scores.values()) / max(1, len(scores))
        self.log_dict(scores | {SCORE: mean}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Return AdamW without decay of vectors, with a learning rate that rises briefly and falls along a cosine."""
        decayed = [p for p in self.parameters() if p.ndim > 1]
        plain = [p for p in self.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        optimiser = AdamW(groups, lr=self.spec.learning_rate, weight_decay=self.spec.weight_decay)
        schedule = LambdaLR(optimiser, Cosine(int(self.trainer.estimated_stepping_batches), self.spec.warmup))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


COUNTS = ("cell_both", "cell_any", "nucleus_both", "nucleus_any", "right", "typed")
RATIOS = (
    ("cell_iou", "cell_both", "cell_any"),
    ("nucleus_iou", "nucleus_both", "nucleus_any"),
    ("accuracy", "right", "typed"),
)


def validation_counts(prediction: Prediction, batch: Example) -> dict[str, Tensor]:
    """Count pixels (intersection, union) and types (right, all) of a batch where the target is known.

    Where a mask shows only entire cells, their nuclei are unknown and not counted.
    """
    labels, target = prediction.segmentation.argmax(dim=1), batch.target
    cell = (target & MAY_BE_BACKGROUND) == 0
    nucleus = target == MAY_BE_NUCLEUS
    cell_known, nucleus_known = cell | (target == MAY_BE_BACKGROUND), nucleus | ((target & MAY_BE_NUCLEUS) == 0)
    typed = ~batch.allowed.all(dim=1)
    best = prediction.cell_type.argmax(dim=1, keepdim=True)
    right = batch.allowed.gather(1, best)[:, 0] & typed
    pixels = (*_overlap(labels != BACKGROUND, cell, cell_known), *_overlap(labels == NUCLEUS, nucleus, nucleus_known))
    return dict(zip(COUNTS, (*pixels, right.sum(), typed.sum()), strict=True))


def _overlap(predicted: Tensor, true: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Count the pixels in both and in either, all bool (B, H, W), in images with positives or fully known targets."""
    usable = (true.flatten(1).any(dim=1) | known.flatten(1).all(dim=1))[:, None, None]
    return (predicted & true & usable).sum(), ((predicted | true) & known & usable).sum()


@dataclass(frozen=True)
class Cosine:
    """Factor of the learning rate at a step: a linear rise, then half a cosine down to 1 %."""

    steps: int
    warmup: float

    def __call__(self, step: int) -> float:
        """Return the factor, in (0, 1]."""
        rise = max(1, round(self.warmup * self.steps))
        if step < rise:
            return (step + 1) / rise
        done = min(1.0, (step - rise) / max(1, self.steps - rise))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training run."""

    folder: Path
    """Folder with `spec.json` and `weights.safetensors` of the best epoch."""
    score: float
    """Best validation score, in [0, 1]; 0 without a validation split."""
    epochs: int
    precision: str
    """Lightning's name of the numeric precision."""
    inherited: Inherited | None = None
    """What was taken over from another model, if any."""
    skipped: tuple[str, ...] = ()
    """Why training images were skipped in some epoch (missing or changed), not counting runs that this one resumed."""


def train(
    samples: Sequence[Sample],
    priors: PriorStore,
    model: ModelSpec | WarmStart,
    spec: TrainSpec,
    folder: str | Path,
    watchers: Logger | Sequence[Logger | Callback] | None = None,
    accelerator: str = "auto",
    teacher: Model | None = None,
) -> TrainingResult:
    """Train a network, or resume a run that was interrupted in `folder`.

    Parameters
    ----------
    samples
        Images with their splits and annotations; labels that the spec doubts are not learned.
    priors
        The priors of all images.
    model
        The model to train; a `WarmStart` starts from the weights of another model.
    folder
        Folder for checkpoints; the model is written to `folder/model`.
    watchers
        Loggers of the training curves, and further callbacks such as a `Deadline`.
    accelerator
        Lightning's name of the device; several GPUs are used together.
    teacher
        A trained model that outlines cells where masks leave pixels open, or are missing.

    Raises
    ------
    InputError
        If no sample is in the training split, no image can be read, nothing of the other model fits, the teacher has
        another scale or prior, this machine does not support the precision, or a checkpoint contains anything but
        weights and numbers, which is not run.
    OutOfTimeError
        If a `Deadline` has passed, after a checkpoint is written.
    SystemExit
        With 143 after SIGTERM, after a checkpoint is written.
    """
    folder = Path(folder)
    watchers = [watchers] if isinstance(watchers, Logger) else watchers or ()
    lightning.seed_everything(spec.seed, verbose=False)
    samples = without_labels(samples, spec.doubted_labels)
    labels = [sample.label for sample in samples if sample.split is Split.TRAIN]
    last, precision = folder / f"{LAST_CHECKPOINT}.ckpt", run_precision(folder, spec.precision, accelerator)
    net, model_spec, inherited = _initial_network(model)
    module = SmearModule(net, spec, class_weights(labels, model_spec.labels))
    outliner = None if teacher is None else Teacher(teacher, model_spec)
    batches = SmearDataModule(samples, priors, model_spec, spec, outliner)
    best = ModelCheckpoint(folder, "best", monitor=SCORE, mode="max", enable_version_counter=False)
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices="auto" if accelerator != "cpu" else 1,
        precision=cast(Any, precision),
        max_epochs=spec.epochs,
        plugins=[WholeCheckpoints()],
        callbacks=[best, *default_callbacks(folder, spec), *(one for one in watchers if isinstance(one, Callback))],
        logger=[one for one in watchers if isinstance(one, Logger)] or False,
        default_root_dir=folder,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=min(LOG_STEPS, len(batches.sampler) // spec.batch_size),
        enable_model_summary=False,
        deterministic="warn",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        resume = str(last) if last.is_file() else None
        try:
            trainer.fit(module, batches, ckpt_path=resume, weights_only=True)
        except SIGTERMException as stop:
            raise SystemExit(128 + signal.SIGTERM) from stop
    if best.best_model_path and best.best_model_score is not None:
        module.load_state_dict(torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"])
    return TrainingResult(
        folder=save_model(folder / "model", model_spec, module.net),
        score=float(best.best_model_score or 0),
        epochs=trainer.current_epoch,
        precision=precision,
        inherited=inherited,
        skipped=tuple(batches.skipped.values()),
    )


def _initial_network(model: ModelSpec | WarmStart) -> tuple[nn.Module, ModelSpec, Inherited | None]:
    if isinstance(model, ModelSpec):
        return build(model), replace(model, imagenet=imagenet_origin(model)), None
    net, inherited = start_from_parent(model)
    return net, replace(model.spec, imagenet=open_spec(model.parent).imagenet), inherited


@dataclass(frozen=True)
class MovingAverage:
    """Exponential moving average of weights whose horizon grows with the run, so that early weights soon fade."""

    decay: float

    def __call__(self, average: Tensor, current: Tensor, updates: Tensor) -> Tensor:
        """Return the new average after `updates` earlier ones."""
        done = float(updates)
        return average + (current - average) * (1 - min(self.decay, (1 + done) / (10 + done)))


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints that are complete or absent.

    Lightning moves its own from the folder for temporary files, which is a copy, and may be cut short, where that is on
    another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint in one step."""
        with atomic_write(path) as draft:
            torch.save(checkpoint, draft)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read weights and numbers.

        Raises
        ------
        InputError
            If the file is damaged or contains anything else.
        """
        complaint = "is damaged, or contains more than weights and numbers, which is not run"
        remedy = "remove it to train from the start, and if nothing damaged it, find out who wrote it"
        with reading(Path(path), complaint, remedy):
            return cast(dict[str, Any], torch.load(path, map_location, weights_only=weights_only))


class MidEpochCheckpoint(ModelCheckpoint):
    """Checkpoints every few steps, except after an epoch's last: resumed there, the epoch would not be validated."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a checkpoint is due and this is not the epoch's last step."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class CheckpointOnSigterm(Callback):
    """Writes a last checkpoint on SIGTERM."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Save if the exception is the one that Lightning raises between two steps after SIGTERM."""
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.path)


def default_callbacks(folder: Path, spec: TrainSpec) -> list[Callback]:
    """Return the callbacks of every run: progress, checkpoints to resume from, averaging, early stopping."""
    steps = MidEpochCheckpoint(
        folder, LAST_CHECKPOINT, every_n_train_steps=CHECKPOINT_STEPS, enable_version_counter=False
    )
    epochs = ModelCheckpoint(
        folder, LAST_CHECKPOINT, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    callbacks: list[Callback] = [
        steps,
        epochs,
        CheckpointOnSigterm(folder / f"{LAST_CHECKPOINT}.ckpt"),
        RichProgressBar(),
    ]
    if spec.ema_decay:
        callbacks.append(WeightAveraging(use_buffers=True, avg_fn=MovingAverage(spec.ema_decay)))
    if spec.patience:
        callbacks.append(EarlyStopping(SCORE, mode="max", patience=spec.patience))
    return callbacks


def run_precision(folder: Path, name: str, accelerator: str) -> str:
    """Return the precision recorded in a run's folder; for a new run, choose and record it.

    Raises
    ------
    InputError
        If it needs a GPU and there is none.
    """
    record = folder / PRECISION_FILE
    if not record.is_file():
        with atomic_write(record) as partial:
            partial.write_text(lightning_precision(name, accelerator))
    precision = record.read_text()
    on_gpu = accelerator != "cpu" and gpu_usable()
    require(
        on_gpu or not precision.startswith("16"),
        f"precision {precision} needs a GPU: use 32-true, bf16-mixed or auto; a run started with it resumes on a GPU",
    )
    if precision.startswith("bf16") and (caution := emulation_caution(Precision.BF16, on_gpu=on_gpu)):
        logger.warning(caution)
    logger.info("training in %s", precision)
    return precision


def lightning_precision(name: str, accelerator: str) -> str:
    """Replace `auto` by Lightning's name of the fastest precision of `accelerator` on this machine."""
    if name != "auto":
        return name
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return "32-true"
    fastest = fastest_precision(on_gpu=accelerator != "cpu" and gpu_usable())
    return {Precision.FP32: "32-true", Precision.BF16: "bf16-mixed", Precision.FP16: "16-mixed"}[fastest]
