"""Tasks that score models."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sgcldff.core.records import Sample
from sgcldff.core.settings import EvalSpec, digest
from sgcldff.evaluation import EvalReport, Predictions, SetAside, UntypedLabel
from sgcldff.evaluation.report import PREDICTIONS_FILE, REPORT_FILE
from sgcldff.models.checkpoint import TRAINED_ON, saved_digest
from sgcldff.promotion.frozen_test_set import content_digest
from tasks.artifacts import show_image, show_markdown
from tasks.policy import MODEL
from tasks.progress import bar
from tasks.stages import stage
from tasks.workspace import Workspace, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalJob:
    """A model and the images on which it is scored."""

    model: str
    """Folder of the model."""
    samples: tuple[Sample, ...]
    spec: EvalSpec
    unusable: tuple[SetAside, ...] = ()
    """Images that are not scored, and are told in the report."""
    untyped: tuple[UntypedLabel, ...] = ()
    """Labels that the model does not know; the samples come without them."""


@stage("evaluate", MODEL)
def evaluate_model(job: EvalJob, workspace: Workspace) -> str:
    """Score a model on images it never saw, or find the finished report; returns the folder of the report."""
    folder, model_digest = evaluation_folder(job, workspace), saved_digest(job.model)
    if not (folder / REPORT_FILE).is_file():
        from sgcldff.evaluation.evaluate import evaluate, examples  # with torch: a finished report is found without
        from sgcldff.evaluation.explain import picture
        from sgcldff.models.model import load_model

        model = load_model(job.model)
        with bar("evaluate") as progress:
            report = evaluate(model, job.samples, job.spec, progress, trained_on(Path(job.model)))
        report = replace(report, set_aside=(*job.unusable, *report.set_aside), untyped=job.untyped)
        folder.mkdir(parents=True, exist_ok=True)
        assert report.predictions is not None
        report.predictions.save(folder / PREDICTIONS_FILE)
        (folder / "report.md").write_text(report.to_markdown())
        picture(examples(model, job.samples), model.spec.labels.classes, folder / "examples.png")
        write_json(folder / REPORT_FILE, json.loads(report.to_json()))
    logger.info("model %s is scored on %d images", model_digest, len(job.samples), extra={"model_digest": model_digest})
    show_markdown((folder / "report.md").read_text(), key="evaluation", description=f"Model {model_digest}")
    show_image((folder / "examples.png").as_uri(), key="examples", description="Images, evidence, Grad-CAM")
    return str(folder)


def evaluation_folder(job: EvalJob, workspace: Workspace) -> Path:
    """Say where the report of an evaluation is, or will be."""
    missing = [[asdict(item) for item in items] for items in (job.unusable, job.untyped) if items]
    content = (saved_digest(job.model), digest(job.spec), content_of(job.samples), *missing)
    return workspace.evaluation(digest(content))


def content_of(samples: Sequence[Sample]) -> list[str]:
    """Hash what is known of images, without their places."""
    return sorted(content_digest(sample) for sample in samples)


def keep(found: Predictions, place: Path) -> None:
    """Write predictions so that a reader never sees half of them."""
    place.parent.mkdir(parents=True, exist_ok=True)
    found.save(place.with_suffix(f".{os.getpid()}.partial")).replace(place)


def trained_on(model: Path) -> frozenset[str]:
    """Read which images a model learned from; none is known for a model from elsewhere."""
    record = model / TRAINED_ON
    return frozenset(json.loads(record.read_text())["sha256"]) if record.is_file() else frozenset()


def read_report(folder: str) -> EvalReport:
    """Read the report that `evaluate_model` wrote."""
    return EvalReport.from_json((Path(folder) / REPORT_FILE).read_text())
