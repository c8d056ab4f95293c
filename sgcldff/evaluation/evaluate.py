"""Evaluation of a model on images it was not trained on."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from sgcldff.core.errors import InputError
from sgcldff.core.records import PROBABILITY, Sample
from sgcldff.core.settings import EvalSpec, ModelSpec, require
from sgcldff.core.tally import Progress
from sgcldff.evaluation import metrics
from sgcldff.evaluation.explain import Explanation, explain, unexplained
from sgcldff.evaluation.metrics import Boundary, Overlap
from sgcldff.evaluation.predict import ImagePrediction, predict_images
from sgcldff.evaluation.predictions import PIXEL_COUNTS, PREDICTED, AnswerLabels, Predictions, tabulate
from sgcldff.evaluation.report import EvalReport, SkippedImage, score
from sgcldff.evaluation.scorable import require_same_space
from sgcldff.models.model import Model
from sgcldff.models.out_of_distribution import Typicality
from sgcldff.models.training.examples import ImageChange, Scene, read_scene
from sgcldff.slides.images import sha256_of

IMAGES_AT_ONCE = 16
"""Images held in memory at a time."""

Hashed = tuple[Sample, Scene, tuple[str, str]]
"""An image with the sha256 of its file and of its mask."""
Explainer = Callable[[Model, Sequence[ImagePrediction]], tuple[Explanation, ...]]


def evaluate(
    model: Model,
    samples: Sequence[Sample],
    spec: EvalSpec | None = None,
    progress: Progress | None = None,
    trained_on: frozenset[str] = frozenset(),
    typicality: Typicality | None = None,
) -> EvalReport:
    """Predict every image end to end and score the predictions.

    Unreadable images, and images that the model was trained on, are skipped; the report lists them with the reasons.

    Parameters
    ----------
    trained_on
        sha256 of the model's training images.
    typicality
        The model's score of how typical a cell is, whose effect on each type is then reported.

    Raises
    ------
    LabelError, InputError
        As `predict`.
    """
    predictions, skipped = predict(model, samples, progress, trained_on, typicality=typicality)
    report = score(predictions, model.spec.labels, spec or EvalSpec(), model.spec.min_confidence)
    return replace(report, skipped=skipped, calibrated=model.spec.calibrated)


def predict(
    model: Model,
    samples: Sequence[Sample],
    progress: Progress | None = None,
    trained_on: frozenset[str] = frozenset(),
    change: ImageChange | None = None,
    *,
    explained: bool = True,
    typicality: Typicality | None = None,
) -> tuple[Predictions, tuple[SkippedImage, ...]]:
    """Predict every image end to end, after `change` if given; returns the predictions and the skipped images.

    Labels that are finer than the model's classes are mapped to those classes. Without explanations no gradient is
    computed, and their columns are null.

    Raises
    ------
    LabelError
        If the samples have labels that are not in the model's label space; raised before any work.
    InputError
        If there is nothing to score, two samples share an id, or the model's output is not finite.
    """
    space = model.spec.labels
    require_same_space(samples, space)
    for name, count in Counter(sample.id for sample in samples).items():
        require(count == 1, f"image id {name!r} occurs twice; give every image its own id")
    samples = [replace(sample, label=sample.label and space.resolve(sample.label)) for sample in samples]
    labels: dict[str, set[str | None]] = defaultdict(set)
    for sample in samples:
        labels[sample.source].add(sample.label)
    answers = {source: AnswerLabels.for_labels(used, space) for source, used in labels.items()}
    rows, skipped = list[dict[str, object]](), list[SkippedImage]()
    for start in range(0, len(samples), IMAGES_AT_ONCE):
        batch = samples[start : start + IMAGES_AT_ONCE]
        scenes, unreadable = _read_scenes(batch, model.spec.mpp, trained_on, change)
        skipped += unreadable
        for explanation, hashes in _explained(model, scenes, explain if explained else unexplained):
            row = _row(explanation, hashes, answers[explanation.prediction.sample.source], model.spec)
            typical = typicality and float(typicality(explanation.prediction.embedding[None])[0])
            rows.append(row | {"typicality": typical})
        if progress is not None:
            progress(min(start + IMAGES_AT_ONCE, len(samples)), len(samples))
    if not rows:
        reason = f" (first reason, {skipped[0].id}: {skipped[0].reason})" if skipped else ""
        raise InputError(f"none of {len(samples)} images can be scored{reason}: name other images")
    return tabulate(rows, space.classes, model.digest), tuple(skipped)


def _read_scenes(
    samples: Sequence[Sample], mpp: float, trained_on: frozenset[str] = frozenset(), change: ImageChange | None = None
) -> tuple[list[Hashed], list[SkippedImage]]:
    scenes, skipped = list[Hashed](), list[SkippedImage]()
    for sample in samples:
        try:
            scene = read_scene(sample, mpp, change)
            sha256 = sample.sha256 or sha256_of(sample.image)
            mask = sample.mask_sha256 or (sha256_of(sample.mask) if sample.mask else "")
        except (InputError, OSError) as error:
            skipped.append(SkippedImage(sample.id, str(error)))
            continue
        if sha256 in trained_on:
            reason = f"{sample.image}: the model was trained on this image; evaluate on images it never saw"
            skipped.append(SkippedImage(sample.id, reason))
        else:
            scenes.append((sample, scene, (sha256, mask)))
    return scenes, skipped


def _explained(
    model: Model, scenes: Sequence[Hashed], explainer: Explainer = explain
) -> Iterator[tuple[Explanation, tuple[str, str]]]:
    predictions = predict_images(model, [(sample, scene) for sample, scene, _ in scenes])
    return zip(explainer(model, predictions), (hashes for _, _, hashes in scenes), strict=True)


def _row(
    explanation: Explanation, hashes: tuple[str, str], answers: AnswerLabels, spec: ModelSpec
) -> dict[str, object]:
    """Return a row of `schema`, so that images need not be kept in memory."""
    prediction = explanation.prediction
    sample, probabilities = prediction.sample, prediction.probabilities
    predicted, confidence = answers.predict(probabilities, sample.label, spec.labels)
    pair = (prediction.labels, prediction.scene.target)
    counts: dict[str, Overlap | Boundary | None] = {
        "cell_": metrics.cell_overlap(*pair),
        "nucleus_": metrics.nucleus_overlap(*pair),
        "cell_boundary_": metrics.cell_boundary(*pair, spec.mpp),
        "nucleus_boundary_": metrics.nucleus_boundary(*pair, spec.mpp),
    }
    return {
        **{name: getattr(sample, name) for name in ("id", "source", "group", "label")},
        **dict(zip(("sha256", "mask_sha256"), hashes, strict=True)),
        PREDICTED: predicted,
        "confidence": confidence,
        "found": prediction.found,
        **{start + name: getattr(counts[start], name, None) for start, names in PIXEL_COUNTS.items() for name in names},
        "cam_on_cell": explanation.on_cell if np.isfinite(explanation.on_cell) else None,
        "occlusion": explanation.occlusion if np.isfinite(explanation.occlusion) else None,
        **{PROBABILITY + name: float(p) for name, p in zip(spec.labels.classes, probabilities, strict=True)},
    }


def explain_examples(model: Model, samples: Sequence[Sample], count: int = 12) -> tuple[Explanation, ...]:
    """Explain up to `count` readable images, evenly spaced in `samples`, for `explain.draw_explanations`."""
    indices = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    scenes, _ = _read_scenes([samples[index] for index in indices], model.spec.mpp)
    return tuple(explanation for explanation, _ in _explained(model, scenes))
