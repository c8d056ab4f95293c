"""Tasks that evaluate models."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sgcldff.core.records import Sample
from sgcldff.core.settings import EvalSpec, digest
from sgcldff.core.wording import first_few
from sgcldff.evaluation import EvalReport, SkippedImage, UnknownLabel
from sgcldff.evaluation.report import MARKDOWN_FILE, PAGE_FILE, REPORT_FILE
from sgcldff.models.checkpoint import TRAINED_ON, saved_digest
from sgcldff.models.reference import read_typicality
from sgcldff.promotion.frozen_test_set import content_digest
from sgcldff.promotion.leakage import TrainingRecord
from tasks.artifacts import show_image, show_markdown
from tasks.policy import MODEL
from tasks.progress import bar
from tasks.stages import stage
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalJob:
    """A model and the images on which it is evaluated."""

    model: str
    """Folder of the model."""
    samples: tuple[Sample, ...]
    spec: EvalSpec
    skipped: tuple[SkippedImage, ...] = ()
    """Images that cannot be scored; the report lists them."""
    unknown_labels: tuple[UnknownLabel, ...] = ()
    """Labels unknown to the model, which are removed from the samples."""

    def data_sets(self) -> str:
        """Return the names of the data sets."""
        return first_few(sorted({sample.source for sample in self.samples}))


@stage("evaluate", MODEL, subject=lambda job, _: f"{job.data_sets()}, model {saved_digest(job.model)}")
def evaluate_model(job: EvalJob, workspace: Workspace) -> str:
    """Evaluate a model on images it was not trained on, or find the finished report; returns the report's folder."""
    model_digest = saved_digest(job.model)
    unscored = [[asdict(item) for item in items] for items in (job.skipped, job.unknown_labels) if items]
    content = (model_digest, digest(job.spec), content_of(job.samples), *unscored)
    folder = workspace.evaluation(digest(content))
    if not (folder / REPORT_FILE).is_file():
        # These import torch; finished reports are found without.
        from sgcldff.evaluation.evaluate import evaluate, explain_examples
        from sgcldff.evaluation.explain import draw_explanations
        from sgcldff.models.model import cached_model

        model = cached_model(job.model)
        with bar("evaluate") as progress:
            typicality = read_typicality(job.model, model_digest)
            report = evaluate(model, job.samples, job.spec, progress, trained_on(Path(job.model)), typicality)
        report = replace(report, skipped=(*job.skipped, *report.skipped), unknown_labels=job.unknown_labels)
        folder.mkdir(parents=True, exist_ok=True)
        draw_explanations(explain_examples(model, job.samples), model.spec.labels.classes, folder / "examples.png")
        report.save(folder)
    if not (folder / PAGE_FILE).is_file():
        from sgcldff.evaluation.page import write_evaluation_page

        write_evaluation_page(folder, EvalReport.open(folder), job.samples)
    logger.info("model %s is scored on %d images", model_digest, len(job.samples), extra={"model_digest": model_digest})
    show_markdown((folder / MARKDOWN_FILE).read_text(), key="evaluation", description=f"Model {model_digest}")
    show_image(folder / "examples.png", key="examples", description="Images, evidence, Grad-CAM")
    return str(folder)


def content_of(samples: Sequence[Sample]) -> list[str]:
    """Return the sorted digests of images with their metadata, without paths."""
    return sorted(content_digest(sample) for sample in samples)


def trained_on(model: Path) -> frozenset[str]:
    """Return the sha256 of a model's training images; empty if they are not recorded."""
    record = TrainingRecord.read(model / TRAINED_ON)
    return record.images if record else frozenset()


def read_report(folder: str) -> EvalReport:
    """Read the report that `evaluate_model` wrote."""
    return EvalReport.from_json((Path(folder) / REPORT_FILE).read_text())
