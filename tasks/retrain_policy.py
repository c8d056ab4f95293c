"""Tasks that decide whether a retraining is due."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.records import Sample, Split
from sgcldff.core.settings import DriftSpec, RetrainPolicy, digest
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation.drift import DriftReport, measure_drift
from sgcldff.models.checkpoint import SPEC_FILE, read_spec
from sgcldff.models.observations import MAX_OBSERVATIONS
from sgcldff.models.reference import Reference, reference_digest
from sgcldff.promotion.retrain_policy import News, RetrainDecision, count_labelled_cells, decide
from sgcldff.registry import CHAMPION, Registry
from tasks.artifacts import show_markdown
from tasks.data import Prepared
from tasks.evaluation import trained_on
from tasks.policy import MODEL
from tasks.progress import bar
from tasks.stages import stage
from tasks.workspace import RECORD_REMEDY, Workspace

DAY_S = 86_400


@stage("describe", MODEL)
def describe_model(prepared: Prepared, training: str) -> str:
    """Write a trained model's reference for drift beside it, unless it exists; returns the model's folder."""
    folder = Path(training) / "model"
    if not reference_digest(folder):
        from sgcldff.evaluation.drift.observe import describe
        from sgcldff.models.model import load_model

        with bar("describe") as progress:
            describe(load_model(folder), Catalog.open(prepared.catalog).samples, progress).save(folder)
    return str(folder)


@stage("measure", MODEL)
def measure_news(prepared: Prepared, workspace: Workspace, spec: DriftSpec) -> News:
    """Compare the catalog with what the champion was trained on."""
    registry = Registry(workspace.tracking_uri)
    champion = registry.aliases().get(CHAMPION)
    if champion is None:
        return News(None)
    name = f"models:/{registry.name}/{champion}"
    _, folder = registry.resolve(name)
    (version,) = (version for version in registry.versions() if version.ref.version == champion)
    samples = Catalog.open(prepared.catalog).samples
    known_labels = read_spec(folder / SPEC_FILE).labels.known
    new = new_samples(samples, folder)
    return News(
        name,
        max(0.0, time.time() - version.created_ms / 1000) / DAY_S,
        len(new),
        count_labelled_cells(new),
        tuple(sorted({sample.label for sample in samples if sample.label} - set(known_labels))),
        drift_of(new, folder, workspace, spec) if new and reference_digest(folder) else None,
    )


def new_samples(samples: Sequence[Sample], model: Path) -> tuple[Sample, ...]:
    """Return the images that are new to a model, or whose annotation has been extended.

    Without a reference only the training images of a model are known; images of the test split are then left out.
    """
    if reference_digest(model):
        return Reference.open(model).unknown(samples)
    training_images = trained_on(model)
    return tuple(
        sample for sample in samples if sample.sha256 not in training_images and sample.split is not Split.TEST
    )


def drift_of(new: Sequence[Sample], folder: Path, workspace: Workspace, spec: DriftSpec) -> DriftReport:
    """Measure the drift of new images from a model's reference, or find the report of the same images."""
    content = sorted((sample.sha256, sample.label or "", sample.mask_sha256) for sample in new)
    path = workspace.drift(digest((reference_digest(folder), digest(spec), content)))
    if not path.is_file():
        from sgcldff.evaluation.drift.observe import observe
        from sgcldff.models.model import load_model

        indices = np.sort(np.random.default_rng(spec.seed).permutation(len(new))[:MAX_OBSERVATIONS])
        with bar("measure") as progress:
            observations = observe(load_model(folder), [new[index] for index in indices], progress)
        write_json(path, measure_drift(Reference.open(folder).observations, observations, spec).to_dict())
    return DriftReport.from_dict(read_json(path, RECORD_REMEDY))


@stage("decide-retraining", MODEL)
def decide_retraining(news: News, policy: RetrainPolicy, workspace: Workspace, force: bool = False) -> RetrainDecision:
    """Apply the policy; the decision becomes an artifact, and the latest one is kept in the workspace."""
    decision = decide(news, policy, force=force)
    write_json(workspace.decision, asdict(decision) | {"time": time.time()})
    show_markdown(decision.to_markdown(), key="retraining", description=decision.outcome)
    return decision
