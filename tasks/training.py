"""Tasks that train and register models."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgcldff.benchmark.protocols import leave_out
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.labels import smallest_label_space
from sgcldff.core.records import ModelRef, Sample, Split
from sgcldff.core.settings import ModelSpec, NetSpec, PriorSpec, TrainSpec, digest, flatten
from sgcldff.core.wording import first_few
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation import Predictions
from sgcldff.evaluation.report import PREDICTIONS_FILE
from sgcldff.models.checkpoint import CONFUSION_FILE, saved_digest, spec_to_dict
from sgcldff.promotion.leakage import TrainingRecord
from sgcldff.registry import EVALUATION, TRAINED_ON, DataSet, Registry
from sgcldff.saliency.store import PriorStore
from tasks.artifacts import show_table
from tasks.data import Prepared
from tasks.evaluation import read_report
from tasks.policy import MODEL
from tasks.stages import model_ids, stage
from tasks.tracking import EVALUATION_TAG, dated
from tasks.workspace import RECORD_REMEDY, Workspace

if TYPE_CHECKING:
    from sgcldff.models.training.warm_start import WarmStart

logger = logging.getLogger(__name__)

TRAINED = "trained.json"
"""Written last into a training folder; such a run is not repeated."""


@dataclass(frozen=True)
class TrainJob:
    """Everything that determines the result of a training."""

    prepared: Prepared
    net: NetSpec
    prior: PriorSpec
    train: TrainSpec
    parent: str | None = None
    """Folder of a model whose weights the training starts from."""
    without: str = ""
    """Data set that is left out of the training, together with near-duplicates of its images."""
    teacher: str | None = None
    """Folder of a model that outlines cells where masks leave pixels open, or are missing."""

    def model(self) -> ModelSpec:
        """Return the model's spec; its label space is the smallest that covers the catalog."""
        labels = smallest_label_space(sample.label for sample in Catalog.open(self.prepared.catalog).samples)
        return ModelSpec(net=self.net, prior=self.prior, labels=labels, mpp=self.prior.mpp)

    def samples(self) -> tuple[Sample, ...]:
        """Return the images of the catalog, of all splits, without the left-out data set."""
        samples = Catalog.open(self.prepared.catalog).samples
        return leave_out(samples, self.without) if self.without else samples

    def data_sets(self) -> str:
        """Return the names of the data sets."""
        return first_few(sorted({sample.source for sample in self.samples()}))

    def title(self) -> str:
        """Return a name for the run and the version: network, data sets and date."""
        return dated(f"{self.net.name} on {self.data_sets()}")

    def key(self) -> str:
        """Hash content, never paths: equal keys stand for equal models."""
        content = (self.prepared.digest, self.prepared.priors.digest, digest(self.model()), digest(self.train))
        parent = () if self.parent is None else (saved_digest(self.parent),)
        teacher = () if self.teacher is None else ("teacher", saved_digest(self.teacher))
        return digest((*content, *parent, *teacher, *(("without", self.without) if self.without else ())))

    def start(self) -> "ModelSpec | WarmStart":
        """Return the spec of the model, with the weights that it starts from."""
        from sgcldff.models.training.warm_start import WarmStart

        return self.model() if self.parent is None else WarmStart(self.model(), Path(self.parent))


@stage("train", MODEL, subject=lambda job, *_, **options: job.title())
def train_model(job: TrainJob, workspace: Workspace, accelerator: str = "auto", until: float | None = None) -> str:
    """Train, resume an interrupted run, or find the finished run; returns its folder.

    Raises
    ------
    OutOfTimeError
        If it is not finished at `until`, s of `time.monotonic`.
    """
    folder = workspace.training(job.key())
    if not (folder / TRAINED).is_file():
        from sgcldff.models.model import load_model
        from sgcldff.models.training.deadline import Deadline
        from sgcldff.models.training.trainer import LAST_CHECKPOINT, train
        from tasks.training_curves import Gauges, epochs_table

        registry = Registry(workspace.tracking_uri)
        run = tracked_run(registry, folder, job)
        samples = job.samples()
        priors = PriorStore.open(job.prepared.priors)
        deadline = [] if until is None else [Deadline(until, folder / f"{LAST_CHECKPOINT}.ckpt")]
        watchers = [registry.runs.experiment_logger(run), Gauges(), *deadline]
        teacher = load_model(job.teacher) if job.teacher else None
        trained = train(samples, priors, job.start(), job.train, folder, watchers, accelerator, teacher)
        write_json(trained.folder / TRAINED_ON, training_record(samples, job))
        notes = {"precision": trained.precision}
        if trained.inherited is not None:
            notes["inherited"] = str(trained.inherited)
        registry.runs.tag(run, {f"sgcldff.{name}": text for name, text in notes.items()})
        outcome = {"score": trained.score, "epochs": trained.epochs, "skipped": trained.skipped}
        write_json(folder / TRAINED, outcome | notes)
        description = f"Training {folder.name}: best score {trained.score:.4f}"
        show_table(epochs_table(registry.runs.curves(run)), key="training", description=description)
    return str(folder)


def training_record(samples: Sequence[Sample], job: TrainJob) -> dict[str, object]:
    """Return the training images of a model, its parents and its teacher; complete only if all of them are known."""
    images = {sample.sha256 for sample in samples if sample.split is not Split.TEST}
    earlier = [TrainingRecord.read(Path(model) / TRAINED_ON) for model in (job.parent, job.teacher) if model]
    for record in earlier:
        images |= record.images if record else frozenset()
    complete = all(record is not None and record.complete for record in earlier)
    return {"sha256": sorted(images), "data": job.prepared.digest, "complete": complete}


def record_of(folder: Path, name: str, registry: Registry) -> Path:
    """Return the file that records a step of a training in this registry; each registry has its own."""
    return folder / f"{name}-{digest((registry.address.uri,))}.json"


def tracked_run(registry: Registry, folder: Path, job: TrainJob) -> str:
    """Start the MLflow run of a training, or find that of an interrupted training."""
    record = record_of(folder, "run", registry)
    if not record.is_file():
        runs = registry.runs
        run = runs.start(job.title(), {"data": job.prepared.digest, "training": folder.name})
        catalog = DataSet(job.data_sets(), job.prepared.digest, job.prepared.catalog)
        runs.add_inputs(run, "training", catalog)
        runs.log(run, flatten({"model": spec_to_dict(job.model()), "train": asdict(job.train)}))
        runs.attach(run, Catalog.open(job.prepared.catalog).snapshot(), "data")
        runs.attach(run, job.prepared.picture, "priors")
        write_json(record, {"run": run})
    return str(read_json(record, RECORD_REMEDY)["run"])


@stage("register", MODEL, subject=lambda job, *_: job.title())
def register_model(job: TrainJob, training: str, evaluation: str, workspace: Workspace) -> ModelRef:
    """Register a trained model with its report as challenger, or find it if it is registered already."""
    folder, registry = Path(training), Registry(workspace.tracking_uri)
    record = record_of(folder, "registered", registry)
    if not record.is_file():
        run = tracked_run(registry, folder, job)
        registry.runs.attach(run, Path(evaluation), EVALUATION)
        registry.runs.tag(run, {EVALUATION_TAG: Path(evaluation).name})
        Predictions.open(Path(evaluation) / PREDICTIONS_FILE).confusion.write(folder / "model" / CONFUSION_FILE)
        tags = {"data": job.prepared.digest, "training": folder.name}
        reference = registry.register(folder / "model", read_report(evaluation), tags, run, job.title())
        registry.runs.finish(run)
        write_json(record, asdict(reference))
    registered = ModelRef(**read_json(record, RECORD_REMEDY))
    logger.info("%s version %s is registered", registered.name, registered.version, extra=model_ids(registered))
    rows = [*asdict(registered).items(), ("data", job.prepared.digest), ("training", folder.name)]
    show_table([{"of": of, "value": value} for of, value in rows], key="registered")
    return registered
