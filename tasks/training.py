"""Tasks that train, evaluate, register and promote models."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sgcldff.benchmark.protocols import leave_out
from sgcldff.core.labels import smallest_label_space
from sgcldff.core.records import ModelRef, Sample, Split
from sgcldff.core.settings import ModelSpec, NetSpec, PriorSpec, TrainSpec, digest
from sgcldff.data.catalog import Catalog
from sgcldff.models.checkpoint import spec_to_dict
from sgcldff.models.model import load_model
from sgcldff.models.training.deadline import Deadline
from sgcldff.models.training.trainer import LAST_CHECKPOINT, train
from sgcldff.models.training.warm_start import WarmStart
from sgcldff.promotion.leakage import Training
from sgcldff.registry import TRAINED_ON, Registry
from sgcldff.saliency.store import PriorStore
from tasks.artifacts import show_table
from tasks.data import Prepared
from tasks.evaluation import read_report
from tasks.policy import MODEL
from tasks.stages import model_ids, stage
from tasks.training_curves import Gauges, epochs_table
from tasks.workspace import Workspace, write_json

logger = logging.getLogger(__name__)

TRAINED = "trained.json"
"""Written last into a training folder: such a run need not be repeated."""


@dataclass(frozen=True)
class TrainJob:
    """All that decides what a training gives."""

    prepared: Prepared
    net: NetSpec
    prior: PriorSpec
    train: TrainSpec
    parent: str | None = None
    """Folder of a model whose weights the training begins with."""
    without: str = ""
    """Data set whose images, and what is alike them, are kept out of the training."""

    def model(self) -> ModelSpec:
        """Give the model's spec; its label space is the smallest that covers the catalog."""
        labels = smallest_label_space(sample.label for sample in Catalog.open(self.prepared.catalog).samples)
        return ModelSpec(net=self.net, prior=self.prior, labels=labels, mpp=self.prior.mpp)

    def samples(self) -> tuple[Sample, ...]:
        """Give the images of the catalog that may be learned from, and those of its test split."""
        samples = Catalog.open(self.prepared.catalog).samples
        return leave_out(samples, self.without) if self.without else samples

    def key(self) -> str:
        """Hash content, never paths: equal keys stand for equal models."""
        content = (self.prepared.digest, self.prepared.priors.digest, digest(self.model()), digest(self.train))
        begun = () if self.parent is None else (load_model(self.parent, "cpu").digest,)
        return digest((*content, *begun, *(("without", self.without) if self.without else ())))

    def start(self) -> ModelSpec | WarmStart:
        """Say what is trained, and with which weights it begins."""
        return self.model() if self.parent is None else WarmStart(self.model(), Path(self.parent))


@stage("train", MODEL)
def train_model(job: TrainJob, workspace: Workspace, accelerator: str = "auto", until: float | None = None) -> str:
    """Train, or go on where an interrupted run stopped, or find the finished run; returns its folder.

    Raises
    ------
    OutOfTimeError
        If it is not finished at `until`, s of `time.monotonic`.
    """
    folder = workspace.training(job.key())
    if not (folder / TRAINED).is_file():
        registry = Registry(workspace.tracking_uri)
        run = tracked_run(registry, folder, job)
        samples = job.samples()
        priors = PriorStore.open(job.prepared.priors)
        deadline = [] if until is None else [Deadline(until, folder / f"{LAST_CHECKPOINT}.ckpt")]
        watchers = [registry.experiment_logger(run), Gauges(), *deadline]
        trained = train(samples, priors, job.start(), job.train, folder, watchers, accelerator)
        write_json(trained.folder / TRAINED_ON, learned_from(samples, job))
        inherited = {} if trained.inherited is None else {"inherited": str(trained.inherited)}
        notes = {"precision": trained.precision} | inherited
        registry.tag(run, {f"sgcldff.{name}": text for name, text in notes.items()})
        outcome = {"score": trained.score, "epochs": trained.epochs, "skipped": trained.skipped}
        write_json(folder / TRAINED, outcome | notes)
        told = f"Training {folder.name}: best score {trained.score:.4f}"
        show_table(epochs_table(registry.curves(run)), key="training", description=told)
    return str(folder)


def learned_from(samples: Sequence[Sample], job: TrainJob) -> dict[str, object]:
    """Say what a model learned from, through its parent's weights too; complete only where all of that is known."""
    parent = None if job.parent is None else Training.read(Path(job.parent) / TRAINED_ON)
    own = {sample.sha256 for sample in samples if sample.split is not Split.TEST}
    seen = own | (parent.images if parent else frozenset())
    complete = job.parent is None or (parent is not None and parent.complete)
    return {"sha256": sorted(seen), "data": job.prepared.digest, "complete": complete}


def record_of(folder: Path, what: str, registry: Registry) -> Path:
    """Give the file that remembers what a registry knows of a training; another registry knows nothing of it."""
    return folder / f"{what}-{digest((registry.address.uri,))}.json"


def tracked_run(registry: Registry, folder: Path, job: TrainJob) -> str:
    """Begin the MLflow run of a training, or find the one that an interrupted training began."""
    record = record_of(folder, "run", registry)
    if not record.is_file():
        run = registry.start(job.key(), {"data": job.prepared.digest})
        registry.log(run, flat({"model": spec_to_dict(job.model()), "train": asdict(job.train)}))
        registry.attach(run, Catalog.open(job.prepared.catalog).snapshot(), "data")
        registry.attach(run, job.prepared.picture, "priors")
        write_json(record, {"run": run})
    return str(json.loads(record.read_text())["run"])


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Name nested settings by their path: `train.loss.centre`."""
    named: dict[str, object] = {}
    for key, value in settings.items():
        path = f"{prefix}{key}"
        named |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return named


@stage("register", MODEL)
def register_model(job: TrainJob, training: str, evaluation: str, workspace: Workspace) -> ModelRef:
    """Register a trained model, with its report, as challenger; one that is registered already is found again."""
    folder, registry = Path(training), Registry(workspace.tracking_uri)
    record = record_of(folder, "registered", registry)
    if not record.is_file():
        run = tracked_run(registry, folder, job)
        registry.attach(run, Path(evaluation), "evaluation")
        tags = {"data": job.prepared.digest, "training": folder.name}
        reference = registry.register(folder / "model", read_report(evaluation), tags, run)
        registry.finish(run)
        write_json(record, asdict(reference))
    registered = ModelRef(**json.loads(record.read_text()))
    logger.info("%s version %s is registered", registered.name, registered.version, extra=model_ids(registered))
    rows = [*asdict(registered).items(), ("data", job.prepared.digest), ("training", folder.name)]
    show_table([{"of": of, "value": value} for of, value in rows], key="registered")
    return registered
