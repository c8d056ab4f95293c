"""The report of an evaluation: scores per data set and pooled, and per class, with intervals; as JSON and Markdown."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, InstanceOf, TypeAdapter, ValidationError

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.markdown import markdown_table
from sgcldff.core.settings import EvalSpec
from sgcldff.core.wording import counted
from sgcldff.evaluation import metrics
from sgcldff.evaluation.bootstrap import FEWEST_GROUPS, MANY_GROUPS, intervals
from sgcldff.evaluation.calibration.abstention import (
    ATYPICAL_SHARE,
    Abstention,
    AtypicalShare,
    abstention,
    atypical_shares,
)
from sgcldff.evaluation.metrics import LABEL_GROUPS, Bools, Doubles, Interval, TypePredictions
from sgcldff.evaluation.predictions import PREDICTED, Predictions

REPORT_FILE, MARKDOWN_FILE, PREDICTIONS_FILE = "report.json", "report.md", "predictions.parquet"
PAGE_FILE = "report.html"
POOLED = "all"
"""Name of the scores of all data sets together."""
METRICS: Mapping[str, str] = {
    "cell_iou": "cell IoU",
    "cell_dice": "cell Dice",
    "nucleus_iou": "nucleus IoU",
    "nucleus_dice": "nucleus Dice",
    "cell_boundary_f1": "cell boundary F1",
    "nucleus_boundary_f1": "nucleus boundary F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC, one versus rest",
    "calibration_error": "expected calibration error",
    "cam_on_cell": "Grad-CAM on the cell beyond chance",
    "occlusion": "loss by covering the cell, less its surroundings",
}
"""Fields of `Scores` that are intervals, with the names shown to readers."""
OUTLINES = tuple(METRICS)[:6]
"""IoU and Dice of cell and nucleus, and F1 of their boundaries: the first columns of `image_scores`."""
EXPLANATIONS = tuple(METRICS)[-2:]
"""Scores of where a type was read from: the last columns of `image_scores`."""
LOWEST = (0.0,) * len(OUTLINES) + (-1.0,) * len(EXPLANATIONS)
"""Lowest values of the columns of `image_scores`: evidence can lie off the cell more than by chance."""
LISTED = 20
"""Skipped images that the Markdown report lists."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one label."""

    label: str
    images: int
    """Images with this true label."""
    predicted: Annotated[int, Field(alias="told")]
    """Images predicted to have this label."""
    recall: Interval | None
    precision: Interval | None
    f1: Interval | None


@dataclass(frozen=True)
class Scores:
    """Scores of one data set, or of all; None where the data do not suffice. Scores of outlines are means of images."""

    source: str
    images: int
    groups: int
    typed: int
    """Images with a label."""
    outlined: int
    """Images with an annotated cell outline."""
    cell_iou: Interval | None
    cell_dice: Interval | None
    nucleus_iou: Interval | None
    nucleus_dice: Interval | None
    cell_boundary_f1: Interval | None
    nucleus_boundary_f1: Interval | None
    accuracy: Interval | None
    balanced_accuracy: Interval | None
    macro_f1: Interval | None
    auroc: Interval | None
    calibration_error: Interval | None
    cam_on_cell: Interval | None
    occlusion: Interval | None
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Images by true label (rows) and predicted label (columns), in the order of `classes`."""
    averaged: tuple[str, ...] = ()
    """Labels of which balanced accuracy and macro F1 are means."""
    calibration_by_chance: float | None = None
    """Calibration error that a perfectly calibrated model would show on so many images."""


@dataclass(frozen=True)
class SkippedImage:
    """An image that was not scored."""

    id: str
    reason: str

    def __str__(self) -> str:
        """Return the reason, prefixed by the image unless the reason names it."""
        return self.reason if self.id in self.reason else f"{self.id}: {self.reason}"


@dataclass(frozen=True)
class UnknownLabel:
    """A label that is unknown to the model: images with it are scored by their outlines only."""

    label: str
    images: int

    def __str__(self) -> str:
        return f"{self.images} images labelled {self.label}"


@dataclass(frozen=True)
class EvalReport:
    """A model's quality on a set of images."""

    model: str
    """Digest of the weights."""
    labels: LabelSpace
    truth: str
    """Digest of the images and labels scored."""
    spec: EvalSpec
    pooled: Scores
    sources: tuple[Scores, ...]
    skipped: Annotated[tuple[SkippedImage, ...], Field(alias="set_aside")] = ()
    predictions: Annotated[InstanceOf[Predictions] | None, Field(exclude=True)] = field(
        default=None, compare=False, repr=False
    )
    """Row by row; not part of the JSON."""
    version: int = 2
    unknown_labels: Annotated[tuple[UnknownLabel, ...], Field(alias="untyped")] = ()
    calibrated: str = ""
    """`ModelSpec.calibrated` of the model."""
    abstention: Abstention | None = None
    """Effect of the model's limit of confidence; None if it has none, or no image has a label."""
    atypical: tuple[AtypicalShare, ...] = ()
    """By true label, the images that a limit of typicality rejects; empty if it was not measured."""

    def to_json(self) -> str:
        """Write everything but the predictions; `from_json` reads it back."""
        return json.dumps(TypeAdapter(EvalReport).dump_python(self, mode="json", by_alias=True), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "EvalReport":
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            If it is not a report of this version.
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise InputError(f"not an evaluation report of this version ({error}); evaluate the model again") from error

    def to_markdown(self) -> str:
        """Write tables for people: scores, classes and confusion of all data sets, and skipped images."""
        return "\n\n".join(part for part in _sections(self) if part) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write predictions and report, as Markdown and, last of all, as JSON, into a folder, which is created."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        if self.predictions is not None:
            self.predictions.save(path / PREDICTIONS_FILE)
        (path / MARKDOWN_FILE).write_text(self.to_markdown())
        with atomic_write(path / REPORT_FILE) as draft:
            draft.write_text(self.to_json())
        return path

    @classmethod
    def open(cls, folder: str | Path) -> "EvalReport":
        """Read what `save` wrote.

        Raises
        ------
        MissingInputError
            If the folder contains no report.
        InputError
            If the report is damaged or of another version.
        """
        path = Path(folder) / REPORT_FILE
        if not path.is_file():
            raise MissingInputError(f"{path}: no such file; evaluate the model first")
        table = path.with_name(PREDICTIONS_FILE)
        read = cls.from_json(path.read_text())
        return replace(read, predictions=Predictions.open(table)) if table.is_file() else read


def score(predictions: Predictions, labels: LabelSpace, spec: EvalSpec, min_confidence: float = 0.0) -> EvalReport:
    """Score predictions per data set and pooled, without regard to `min_confidence`, whose effect is shown apart.

    Pooled, every image counts once and is correct if it is correct among its own data set's labels; AUROC excludes
    images whose label may include the label in question ("non-blast" for neutrophils).
    """
    sources = sorted(set(predictions.column("source")))
    parts = tuple(score_source(predictions.of(source), source, labels, spec) for source in sources)
    pooled = score_source(predictions, POOLED, labels, spec)
    types, labelled = type_predictions(predictions)
    names = [types.labels[index] for index in types.true]
    limited, atypical = None, tuple[AtypicalShare, ...]()
    if min_confidence and pooled.typed:
        confidence = predictions.broad_confidence[labelled]
        limited = abstention(confidence, types.true == types.predicted, names, min_confidence)
    typicality = predictions.numbers("typicality")[labelled]
    if len(typicality) and np.isfinite(typicality).all():
        groups = [group for group, use in zip(predictions.groups, labelled, strict=True) if use]
        atypical = atypical_shares(typicality, names, groups, spec)
    return EvalReport(
        predictions.model,
        labels,
        predictions.truth,
        spec,
        pooled,
        parts,
        predictions=predictions,
        abstention=limited,
        atypical=atypical,
    )


def score_source(predictions: Predictions, source: str, labels: LabelSpace, spec: EvalSpec) -> Scores:
    """Score the rows of one data set, or of all."""
    groups = predictions.groups
    per_image = image_scores(predictions)
    spread = intervals(metrics.mean_of(per_image), groups, spec, LOWEST) if groups else (None,) * len(LOWEST)
    types = _type_report(predictions, labels, spec)
    return Scores(
        source=source,
        images=len(groups),
        groups=len(set(groups)),
        typed=sum(label is not None for label in predictions.column("label")),
        outlined=int(np.isfinite(predictions.numbers("cell_union")).sum()),
        classes=types.classes,
        confusion=types.confusion,
        averaged=types.averaged,
        calibration_by_chance=types.calibration_by_chance,
        **dict(zip(METRICS, (*spread[: len(OUTLINES)], *types.overall, *spread[len(OUTLINES) :]), strict=True)),
    )


def image_scores(predictions: Predictions) -> Doubles:
    """Score the outlines and explanations of every image: (N, 8), NaN where undefined.

    Columns: cell IoU and Dice, nucleus IoU and Dice, boundary F1 of cell and nucleus, CAM share and occlusion.
    """
    parts = ("cell_", "nucleus_")
    areas = [measure(*predictions.counts(part)) for part in parts for measure in (metrics.iou, metrics.dice)]
    boundaries = [metrics.boundary_f1(*predictions.counts(f"{part}boundary_")) for part in parts]
    explanations = [predictions.numbers(name) for name in EXPLANATIONS]
    return np.column_stack([*areas, *boundaries, *explanations])


@dataclass(frozen=True)
class TypeReport:
    """Scores of types: accuracy, balanced accuracy, macro F1, AUROC and calibration error; classes; confusion."""

    overall: tuple[Interval | None, ...] = (None,) * 5
    classes: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    averaged: tuple[str, ...] = ()
    calibration_by_chance: float | None = None


def type_predictions(predictions: Predictions) -> tuple[TypePredictions, Bools]:
    """Return true and predicted types of the labelled rows, and the mask of those rows, (N,)."""
    labels, classes = predictions.column("label"), predictions.classes
    labelled = np.array([label is not None for label in labels], bool)
    pairs = [pair for pair in zip(labels, predictions.column(PREDICTED), strict=True) if pair[0] is not None]
    names = sorted(
        {name for pair in pairs for name in pair},
        key=lambda name: (classes.index(name) if name in classes else len(classes), name),
    )
    indices = np.array([[names.index(name) for name in pair] for pair in pairs], int).reshape(-1, 2)
    confidence = predictions.numbers("confidence")[labelled]
    return TypePredictions(tuple(names), indices[:, 0], indices[:, 1], confidence), labelled


def _type_report(predictions: Predictions, space: LabelSpace, spec: EvalSpec) -> TypeReport:
    """Score the types of the labelled rows."""
    types, labelled = type_predictions(predictions)
    if not labelled.any():
        return TypeReport()
    groups = [group for group, use in zip(predictions.groups, labelled, strict=True) if use]
    averaged = metrics.averaged_labels(types, groups)
    accuracy, balanced, macro, *per_class = intervals(metrics.type_scores(types, averaged), groups, spec)
    (auroc,) = intervals(auroc_reduction(predictions.probabilities[labelled], types, space), groups, spec)
    (gap,) = intervals(metrics.calibration_error(types, spec.calibration_bins), groups, spec)
    counts = metrics.confusion(types, np.ones((1, len(groups))))[0].astype(int)
    size = len(types.labels)
    classes = tuple(
        ClassScore(label, int(counts[k].sum()), int(counts[:, k].sum()), *per_class[k::size])
        for k, label in enumerate(types.labels)
    )
    return TypeReport(
        (accuracy, balanced, macro, auroc, gap),
        classes,
        tuple(tuple(map(int, row)) for row in counts),
        tuple(label for label, kept in zip(types.labels, averaged, strict=True) if kept),
        metrics.calibration_by_chance(types, spec.calibration_bins),
    )


def auroc_reduction(probabilities: Doubles, types: TypePredictions, space: LabelSpace) -> Callable[[Doubles], Doubles]:
    """Prepare the macro AUROC over the labels that occur in the truth."""
    members = np.stack([space.allowed(label) for label in types.labels])
    present = np.unique(types.true)
    positive = types.true[:, None] == present
    disjoint = ~(members[types.true].astype(int) @ members[present].T.astype(int)).astype(bool)
    return metrics.macro_auroc(probabilities @ members[present].T, positive, disjoint)


def _sections(report: EvalReport) -> Iterable[str]:
    columns = [report.pooled, *report.sources]
    yield f"# Evaluation of model {report.model}"
    yield f"Calibrated for a laboratory: {report.calibrated}." if report.calibrated else ""
    yield (
        f"Intervals are of {report.spec.confidence:.0%}, by {report.spec.resamples} bootstrap samples of patients or "
        f"slides, spread as Student's t below {MANY_GROUPS} of them; there is none below {FEWEST_GROUPS}."
    )
    counts = {"images": "images", "groups": "groups", "typed": "with a label", "outlined": "with an outline"}
    names = counts | dict(METRICS)
    rows = [[title, *(_text(getattr(part, name)) for part in columns)] for name, title in names.items()]
    chance = [f"{part.calibration_by_chance:.3f}" if part.calibration_by_chance else "-" for part in columns]
    rows.insert(list(names).index("calibration_error") + 1, ["... of a perfectly calibrated model", *chance])
    yield markdown_table(["", *(part.source for part in columns)], rows)
    for part in columns if len(report.sources) > 1 else columns[1:]:
        if part.classes:
            yield from _class_section(part)
    if report.abstention:
        yield from _abstention_section(report.abstention)
    if report.atypical:
        yield from _typicality_section(report.atypical)
    if report.unknown_labels:
        labels = ", ".join(map(str, report.unknown_labels))
        yield f"Scored by their outlines only, since the label is unknown to the model: {labels}."
    if report.skipped:
        yield f"## Skipped: {len(report.skipped)}"
        yield markdown_table(["image", "reason"], [[item.id, item.reason] for item in report.skipped[:LISTED]])
        if len(report.skipped) > LISTED:
            yield f"and {len(report.skipped) - LISTED} more, listed in the JSON report."


def _class_section(part: Scores) -> Iterable[str]:
    yield f"## {'All data sets' if part.source == POOLED else part.source}"
    fields = ("label", "images", "predicted", "recall", "precision", "f1")
    scores = [[_text(getattr(one, name)) for name in fields] for one in part.classes]
    yield markdown_table(["class", "images", "predicted", "recall", "precision", "F1"], scores)
    rare = (one for one in part.classes if one.images and one.label not in part.averaged)
    listed = ", ".join(f"{one.label} ({counted(one.images, 'image')})" for one in rare)
    rest = f"; left out, since they occur in fewer than {LABEL_GROUPS} groups: {listed}" if listed else ""
    yield f"Balanced accuracy and macro F1 are over {counted(len(part.averaged), 'class', 'classes')}{rest}."
    names = [one.label for one in part.classes]
    confusion_rows = [[name, *map(str, row)] for name, row in zip(names, part.confusion, strict=True)]
    yield markdown_table(["true / predicted", *names], confusion_rows)


def _abstention_section(effect: Abstention) -> Iterable[str]:
    yield "## Abstention"
    right = "" if effect.accuracy is None else f", of which {effect.accuracy:.1%} are correct"
    yield (
        f"At the model's limit of confidence, {effect.min_confidence:g}, {effect.kept:.1%} of the images are classified"
        f"{right}. The scores above do not abstain."
    )
    yield markdown_table(["class", "unidentified"], [[name, f"{share:.1%}"] for name, share in effect.rejected.items()])


def _typicality_section(shares: Iterable[AtypicalShare]) -> Iterable[str]:
    yield "## Typicality"
    yield (
        f"Of cells like those held out of the training, {ATYPICAL_SHARE:.0%} have a typicality below"
        f" {ATYPICAL_SHARE:g}; single classes may differ widely. With `min_typicality` = {ATYPICAL_SHARE:g} these"
        " shares of the images stay unidentified:"
    )
    yield markdown_table(["class", "images", "unidentified"], [[s.label, str(s.images), str(s.share)] for s in shares])


def _text(value: object) -> str:
    return "-" if value is None else str(value)
