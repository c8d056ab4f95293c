"""Training of any network on any mixture of data sets, resumable at every step."""

import logging
import math
import signal
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
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
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import SumMetric

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError
from sgcldff.core.records import Sample, Split
from sgcldff.core.settings import ModelSpec, Precision, TrainSpec, require
from sgcldff.models.checkpoint import open_spec
from sgcldff.models.model import save_model
from sgcldff.models.nets import Prediction, build, imagenet_origin
from sgcldff.models.nets.base import Network
from sgcldff.models.runtimes.hardware import emulation_caution, fastest_precision, gpu_usable
from sgcldff.models.training.batches import SmearDataModule
from sgcldff.models.training.examples import BACKGROUND, NUCLEUS, Item
from sgcldff.models.training.losses import SmearLoss, class_weights
from sgcldff.models.training.warm_start import Inherited, Successor, begin
from sgcldff.saliency.store import PriorStore

logger = logging.getLogger(__name__)

SCORE = "val/score"
"""What checkpoints are chosen by: mean of cell IoU, nucleus IoU and accuracy on the validation split."""

LAST = "last"
"""Name of the checkpoint to resume from."""

CHECKPOINT_STEPS = 100
"""Steps between checkpoints to resume from; there is one at every epoch's end, too."""

PRECISION_FILE = "precision.txt"
"""What a run computes with, noted when it begins: a run that another machine takes up goes on with the same."""

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

    def on_train_batch_start(self, batch: Item, batch_idx: int) -> None:
        """Tie dropout to the step, so that a resumed run draws what an undisturbed one would."""
        torch.manual_seed(1_000_003 * self.spec.seed + self.global_step)

    def training_step(self, batch: Item, batch_idx: int) -> Tensor:
        """Return the loss of a batch and log its terms."""
        terms = self.loss(self.net(batch.image, batch.prior), batch.prior, batch.target, batch.allowed)
        parts = {f"train/{name}": getattr(terms, name).detach() for name in terms.__dataclass_fields__}
        self.log_dict(parts, batch_size=len(batch.image))
        self.log("train/loss", terms.total.detach(), prog_bar=True, batch_size=len(batch.image))
        return cast(Tensor, terms.total)

    def validation_step(self, batch: Item, batch_idx: int) -> None:
        """Add a batch to the validation counts."""
        for name, count in validation_counts(self.net(batch.image, batch.prior), batch).items():
            cast(SumMetric, self.counts[name]).update(count)

    def on_validation_epoch_end(self) -> None:
        """Log cell and nucleus IoU, accuracy, and their mean, as far as the split has targets for them."""
        totals = {name: float(cast(SumMetric, count).compute()) for name, count in self.counts.items()}
        for count in self.counts.values():
            cast(SumMetric, count).reset()
        scores = {f"val/{name}": totals[part] / totals[whole] for name, part, whole in RATIOS if totals[whole] > 0}
        mean = sum(scores.values()) / max(1, len(scores))
        self.log_dict(scores | {SCORE: mean}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW without decay on vectors; the rate rises for a few steps and falls along a cosine."""
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


def validation_counts(prediction: Prediction, batch: Item) -> dict[str, Tensor]:
    """Count pixels (intersection, union) and types (right, all) of a batch where the target is known.

    Where a mask shows cells as a whole, their nuclei are unknown and count for neither side.
    """
    told, target = prediction.segmentation.argmax(dim=1), batch.target
    cell, cell_known = (target & BACKGROUND) == 0, ((target & BACKGROUND) == 0) | (target == BACKGROUND)
    nucleus, nucleus_known = target == NUCLEUS, (target == NUCLEUS) | ((target & NUCLEUS) == 0)
    typed = ~batch.allowed.all(dim=1)
    best = prediction.cell_type.argmax(dim=1, keepdim=True)
    right = batch.allowed.gather(1, best)[:, 0] & typed
    pixels = (*_overlap(told > 0, cell, cell_known), *_overlap(told == 2, nucleus, nucleus_known))
    return dict(zip(COUNTS, (*pixels, right.sum(), typed.sum()), strict=True))


def _overlap(told: Tensor, true: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Count the pixels in both and in either, all bool (B, H, W); images whose truth cannot tell are left out."""
    telling = (true.flatten(1).any(dim=1) | known.flatten(1).all(dim=1))[:, None, None]
    return (told & true & telling).sum(), ((told | true) & known & telling).sum()


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
class Trained:
    """What a training run leaves behind."""

    folder: Path
    """Holds `spec.json` and `weights.safetensors` of the best epoch."""
    score: float
    """Best validation score, in [0, 1]; 0 without a validation split."""
    epochs: int
    precision: str
    """Lightning's name of the numbers that it was computed with."""
    inherited: Inherited | None = None
    """What was taken over from another model, if any."""
    skipped: tuple[str, ...] = ()
    """Why training images were skipped in some epoch: they were gone or had changed; without those of earlier runs that
    this one went on with."""


def train(
    data: tuple[Sequence[Sample], PriorStore],
    model: ModelSpec | Successor,
    spec: TrainSpec,
    folder: str | Path,
    watchers: Logger | Sequence[Logger | Callback] | None = None,
    accelerator: str = "auto",
) -> Trained:
    """Train a network, or go on with a run that was interrupted in `folder`.

    Parameters
    ----------
    data
        Samples with their splits, and the priors of all of them.
    model
        What is trained; a `Successor` begins with the weights of another model.
    folder
        Checkpoints are kept here; the model is written to `folder/model`.
    watchers
        Where curves are logged, and what else looks on (a `Deadline`, say).
    accelerator
        Lightning's name of the device; several GPUs are used together.

    Raises
    ------
    InputError
        If no sample is in the training split, no image can be read, nothing of the other model fits, this machine
        lacks the precision, or a checkpoint holds more than weights and numbers: what it holds is not run.
    OutOfTimeError
        If a `Deadline` looks on and is over, once a checkpoint is written.
    SystemExit
        With 143 after SIGTERM, once a checkpoint is written.
    """
    place, beside = Path(folder), [watchers] if isinstance(watchers, Logger) else watchers or ()
    lightning.seed_everything(spec.seed, verbose=False)
    samples, priors = data
    labels = [sample.label for sample in samples if sample.split is Split.TRAIN]
    last, numbers = place / f"{LAST}.ckpt", run_precision(place, spec.precision, accelerator)
    net, seen, inherited = _begun(model)
    module = SmearModule(net, spec, class_weights(labels, seen.labels))
    batches = SmearDataModule(samples, priors, seen, spec)
    best = ModelCheckpoint(place, "best", monitor=SCORE, mode="max", enable_version_counter=False)
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices="auto" if accelerator != "cpu" else 1,
        precision=cast(Any, numbers),
        max_epochs=spec.epochs,
        callbacks=[best, *callbacks(place, spec), *(one for one in beside if isinstance(one, Callback))],
        logger=[one for one in beside if isinstance(one, Logger)] or False,
        default_root_dir=place,
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
        except UnpicklingError:
            raise InputError(
                f"{last}: is damaged, or holds more than weights and numbers, which is not run; remove it to train "
                "anew, and if nothing damaged it, find out who wrote it"
            ) from None
    load_best(module, best)
    exported = save_model(place / "model", seen, module.net)
    skipped = tuple(batches.skipped.values())
    return Trained(exported, float(best.best_model_score or 0), trainer.current_epoch, numbers, inherited, skipped)


def _begun(model: ModelSpec | Successor) -> tuple[nn.Module, ModelSpec, Inherited | None]:
    """Build the network that is to be trained, and say what it took over."""
    if isinstance(model, ModelSpec):
        return build(model), replace(model, imagenet=imagenet_origin(model)), None
    net, inherited = begin(model)
    return net, replace(model.spec, imagenet=open_spec(model.parent).imagenet), inherited


@dataclass(frozen=True)
class MovingAverage:
    """Exponential moving average of weights whose horizon grows with the run: early, bad weights are soon forgotten."""

    decay: float

    def __call__(self, average: Tensor, current: Tensor, updates: Tensor) -> Tensor:
        """Return the new average after `updates` earlier ones."""
        done = float(updates)
        return average + (current - average) * (1 - min(self.decay, (1 + done) / (10 + done)))


class WithinEpochs(ModelCheckpoint):
    """Checkpoints after every so many steps, except an epoch's last: resumed there, the epoch would go unvalidated."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if as many steps were done; after an epoch's last step its validation comes first, then `last`."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class KeepOnSigterm(Callback):
    """Write a last checkpoint when the process is told to stop."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Save if the exception is Lightning's answer to SIGTERM, which it gives between two steps."""
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.path)


def callbacks(folder: Path, spec: TrainSpec) -> list[Callback]:
    """Return what watches over a run: progress, checkpoints to resume from, averaging, early stop."""
    steps = WithinEpochs(folder, LAST, every_n_train_steps=CHECKPOINT_STEPS, enable_version_counter=False)
    epochs = ModelCheckpoint(folder, LAST, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False)
    chosen: list[Callback] = [steps, epochs, KeepOnSigterm(folder / f"{LAST}.ckpt"), RichProgressBar()]
    if spec.ema_decay:
        chosen.append(WeightAveraging(use_buffers=True, avg_fn=MovingAverage(spec.ema_decay)))
    if spec.patience:
        chosen.append(EarlyStopping(SCORE, mode="max", patience=spec.patience))
    return chosen


def run_precision(folder: Path, name: str, accelerator: str) -> str:
    """Return the precision that a run in `folder` began with, or that of a new one, which is noted there.

    Raises
    ------
    InputError
        If it needs a GPU and there is none.
    """
    record = folder / PRECISION_FILE
    if not record.is_file():
        with atomic_write(record) as partial:
            partial.write_text(precision(name, accelerator))
    noted = record.read_text()
    on_gpu = accelerator != "cpu" and gpu_usable()
    require(
        on_gpu or not noted.startswith("16"),
        f"precision {noted} needs a GPU: give 32-true, bf16-mixed or auto; a run that began in it goes on where one is",
    )
    if noted.startswith("bf16") and (caution := emulation_caution(Precision.BF16, on_gpu=on_gpu)):
        logger.warning(caution)
    logger.info("training in %s", noted)
    return noted


def precision(name: str, accelerator: str) -> str:
    """Replace `auto` by Lightning's name of what `accelerator` computes fastest on this machine."""
    if name != "auto":
        return name
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return "32-true"
    fastest = fastest_precision(on_gpu=accelerator != "cpu" and gpu_usable())
    return {Precision.FP32: "32-true", Precision.BF16: "bf16-mixed", Precision.FP16: "16-mixed"}[fastest]


def load_best(module: SmearModule, best: ModelCheckpoint) -> None:
    """Put the best epoch's weights into the module, if the run had a validation split."""
    if best.best_model_path and best.best_model_score is not None:
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
