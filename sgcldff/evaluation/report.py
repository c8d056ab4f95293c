"""The report of an evaluation: scores per data set and pooled, per class, with intervals; as JSON and as Markdown."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.bootstrap import intervals
from sgcldff.evaluation.metrics import (
    Bools,
    Floats,
    Interval,
    Typing,
    boundary_f1,
    calibration_error,
    confusion,
    dice,
    iou,
    macro_auroc,
    mean_of,
    type_scores,
)
from sgcldff.evaluation.predictions import Predictions

REPORT_FILE, MARKDOWN_FILE, PREDICTIONS_FILE = "report.json", "report.md", "predictions.parquet"
POOLED = "all"
"""Name under which the data sets are scored together."""
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
    "cam_on_cell": "Grad-CAM energy on the cell",
    "saliency_consistency": "evidence with prior (r)",
}
"""Fields of `Scores` that are intervals, with the names that readers see."""
OUTLINES = tuple(METRICS)[:6]
"""IoU and Dice of cell and nucleus, and F1 of their boundaries: the first columns of `outline_scores`."""


LISTED = 20
"""Images set aside that the readable report names."""


@dataclass(frozen=True)
class ClassScore:
    """How well one label is told."""

    label: str
    images: int
    """Images whose true label it is."""
    told: int
    """Images told to be it."""
    recall: Interval | None
    precision: Interval | None
    f1: Interval | None


@dataclass(frozen=True)
class Scores:
    """Scores of one data set, or of all; None where the data cannot tell. Outlines are scored by means over images."""

    source: str
    images: int
    groups: int
    typed: int
    """Images with a label."""
    outlined: int
    """Images whose truth shows the cell's outline."""
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
    saliency_consistency: Interval | None
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Images by true label (rows) and told label (columns), in the order of `classes`."""


@dataclass(frozen=True)
class SetAside:
    """An image that was not scored."""

    id: str
    reason: str

    def __str__(self) -> str:
        """Give the reason, with the image where it does not name it."""
        return self.reason if self.id in self.reason else f"{self.id}: {self.reason}"


@dataclass(frozen=True)
class UntypedLabel:
    """A label that the model does not know: of images that have it, the outlines alone are scored."""

    label: str
    images: int

    def __str__(self) -> str:
        return f"{self.images} images labelled {self.label}"


@dataclass(frozen=True)
class EvalReport:
    """What is known of a model's quality on a set of images."""

    model: str
    """Digest of the weights."""
    labels: LabelSpace
    truth: str
    """Digest of the images and labels scored."""
    spec: EvalSpec
    pooled: Scores
    sources: tuple[Scores, ...]
    set_aside: tuple[SetAside, ...] = ()
    predictions: Predictions | None = field(default=None, compare=False, repr=False)
    """Row by row; not part of the JSON."""
    version: int = 2
    untyped: tuple[UntypedLabel, ...] = ()

    def to_json(self) -> str:
        """Write everything but the predictions; `from_json` reads it back."""
        plain = asdict(replace(self, predictions=None)) | {"labels": self.labels.to_dict()}
        del plain["predictions"]
        return json.dumps(plain, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "EvalReport":
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            If it is no report of this version.
        """
        try:
            data = json.loads(text)
            parts = {
                "labels": LabelSpace.from_dict(data["labels"]),
                "spec": EvalSpec(**data["spec"]),
                "pooled": _scores(data["pooled"]),
                "sources": tuple(_scores(part) for part in data["sources"]),
                "set_aside": tuple(SetAside(**part) for part in data["set_aside"]),
                "untyped": tuple(UntypedLabel(**part) for part in data.get("untyped", ())),
            }
            return cls(**(data | parts))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(
                f"not an evaluation report of this version ({error!r}); evaluate the model again"
            ) from error

    def to_markdown(self) -> str:
        """Write tables that a person reads: scores, classes and confusion of all data sets, and what was set aside."""
        return "\n\n".join(part for part in _sections(self) if part) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write the report as JSON and as Markdown, and its predictions, into a folder, which is made."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / REPORT_FILE).write_text(self.to_json())
        (place / MARKDOWN_FILE).write_text(self.to_markdown())
        if self.predictions is not None:
            self.predictions.save(place / PREDICTIONS_FILE)
        return place

    @classmethod
    def open(cls, folder: str | Path) -> "EvalReport":
        """Read what `save` wrote.

        Raises
        ------
        MissingInputError
            If the folder holds no report.
        InputError
            If the report is damaged or of another version.
        """
        path = Path(folder) / REPORT_FILE
        if not path.is_file():
            raise MissingInputError(f"{path}: no such file; evaluate the model first")
        table = path.with_name(PREDICTIONS_FILE)
        read = cls.from_json(path.read_text())
        return replace(read, predictions=Predictions.open(table)) if table.is_file() else read


def score(predictions: Predictions, labels: LabelSpace, spec: EvalSpec) -> EvalReport:
    """Score predictions per data set and pooled.

    Pooled, every image counts once and is right where it is right within its own data set's labels; AUROC leaves out
    images whose label may mean the label in question ("non-blast" for neutrophils).
    """
    sources = sorted(set(predictions.column("source")))
    parts = tuple(score_source(predictions.of(source), (source, labels), spec) for source in sources)
    pooled = score_source(predictions, (POOLED, labels), spec)
    return EvalReport(predictions.model, labels, predictions.truth, spec, pooled, parts, (), predictions)


def score_source(predictions: Predictions, named: tuple[str, LabelSpace], spec: EvalSpec) -> Scores:
    """Score the rows of one data set (or of all) under a name."""
    groups, (source, space) = predictions.groups, named
    outlines = outline_scores(predictions)
    spread = intervals(mean_of(outlines), groups, spec) if groups else (None,) * outlines.shape[1]
    kinds = typed_scores(predictions, space, spec)
    return Scores(
        source=source,
        images=len(groups),
        groups=len(set(groups)),
        typed=sum(label is not None for label in predictions.column("label")),
        outlined=int(np.isfinite(predictions.numbers("cell_union")).sum()),
        classes=kinds.classes,
        confusion=kinds.confusion,
        **dict(zip(METRICS, (*spread[: len(OUTLINES)], *kinds.overall, *spread[len(OUTLINES) :]), strict=True)),
    )


def outline_scores(predictions: Predictions) -> Floats:
    """Score the outlines and what was looked at of every image: (N, 8), NaN where that is not known.

    Columns: cell IoU and Dice, nucleus IoU and Dice, boundary F1 of cell and nucleus, CAM share and consistency.
    """
    parts = ("cell_", "nucleus_")
    areas = [measure(*predictions.counts(part)) for part in parts for measure in (iou, dice)]
    boundaries = [boundary_f1(*predictions.counts(f"{part}boundary_")) for part in parts]
    looked = [predictions.numbers(name) for name in ("cam_on_cell", "saliency_consistency")]
    return np.column_stack([*areas, *boundaries, *looked])


@dataclass(frozen=True)
class TypeReport:
    """Scores of types: accuracy, balanced accuracy, macro F1, AUROC and calibration error; classes; confusion."""

    overall: tuple[Interval | None, ...] = (None,) * 5
    classes: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()


def typing_of(predictions: Predictions) -> tuple[Typing, Bools]:
    """Give true and told types of the labelled rows, and which rows those are, (N,)."""
    labels, told = predictions.column("label"), predictions.column("told")
    typed = np.array([label is not None for label in labels], bool)
    pairs = [pair for pair in zip(labels, told, strict=True) if pair[0] is not None]
    names = sorted({name for pair in pairs for name in pair}, key=_order(predictions.classes))
    places = np.array([[names.index(name) for name in pair] for pair in pairs], int).reshape(-1, 2)
    return Typing(tuple(names), places[:, 0], places[:, 1], predictions.numbers("confidence")[typed]), typed


def _order(classes: tuple[str, ...]) -> Callable[[str], tuple[int, str]]:
    return lambda name: (classes.index(name) if name in classes else len(classes), name)


def typed_scores(predictions: Predictions, space: LabelSpace, spec: EvalSpec) -> TypeReport:
    """Score the types of the labelled rows."""
    typing, typed = typing_of(predictions)
    if not typed.any():
        return TypeReport()
    groups = [group for group, use in zip(predictions.groups, typed, strict=True) if use]
    accuracy, balanced, macro, *single = intervals(type_scores(typing), groups, spec)
    (ranked,) = intervals(ranking(predictions.probabilities[typed], typing, space), groups, spec)
    (gap,) = intervals(calibration_error(typing, spec.calibration_bins), groups, spec)
    counts = confusion(typing, np.ones((1, len(groups))))[0].astype(int)
    size = len(typing.labels)
    classes = tuple(
        ClassScore(label, int(counts[k].sum()), int(counts[:, k].sum()), *single[k::size])
        for k, label in enumerate(typing.labels)
    )
    return TypeReport((accuracy, balanced, macro, ranked, gap), classes, tuple(tuple(map(int, r)) for r in counts))


def ranking(probabilities: Floats, typing: Typing, space: LabelSpace) -> Callable[[Floats], Floats]:
    """Prepare the macro AUROC over the labels that are true of some image."""
    members = np.stack([space.allowed(label) for label in typing.labels])
    present = np.unique(typing.true)
    positive = typing.true[:, None] == present
    disjoint = ~(members[typing.true].astype(int) @ members[present].T.astype(int)).astype(bool)
    return macro_auroc(probabilities @ members[present].T, positive, disjoint)


def _scores(data: dict[str, Any]) -> Scores:
    spread = {name: _interval(data[name]) for name in METRICS}
    classes = tuple(
        ClassScore(**(part | {name: _interval(part[name]) for name in ("recall", "precision", "f1")}))
        for part in data["classes"]
    )
    return Scores(**(data | spread | {"classes": classes, "confusion": tuple(map(tuple, data["confusion"]))}))


def _interval(data: Mapping[str, float] | None) -> Interval | None:
    return None if data is None else Interval(**data)


def _sections(report: EvalReport) -> Iterable[str]:
    columns = [report.pooled, *report.sources]
    yield f"# Evaluation of model {report.model}"
    yield f"Intervals hold {report.spec.confidence:.0%} of {report.spec.resamples} draws of whole groups."
    yield _table(["", *(part.source for part in columns)], _score_rows(columns))
    for part in columns if len(report.sources) > 1 else columns[1:]:
        yield _class_section(part)
    if report.untyped:
        yield f"Scored by their outlines alone, for the model does not know the label: {listed(report.untyped)}."
    if report.set_aside:
        yield f"## Skipped: {len(report.set_aside)}"
        yield _table(["image", "reason"], [[item.id, item.reason] for item in report.set_aside[:LISTED]])
        if len(report.set_aside) > LISTED:
            yield f"and {len(report.set_aside) - LISTED} more, which the JSON report lists."


def listed(untyped: Iterable[UntypedLabel]) -> str:
    """Name labels that a model does not know, with their numbers of images."""
    return ", ".join(map(str, untyped))


def _score_rows(columns: list[Scores]) -> list[list[str]]:
    counts = {"images": "images", "groups": "groups", "typed": "with a label", "outlined": "with an outline"}
    rows = [[title, *(str(getattr(part, name)) for part in columns)] for name, title in counts.items()]
    return rows + [[title, *(_text(getattr(part, name)) for part in columns)] for name, title in METRICS.items()]


def _class_section(part: Scores) -> str:
    if not part.classes:
        return ""
    names = [single.label for single in part.classes]
    scores = [
        [one.label, str(one.images), str(one.told), _text(one.recall), _text(one.precision), _text(one.f1)]
        for one in part.classes
    ]
    told = [[name, *map(str, row)] for name, row in zip(names, part.confusion, strict=True)]
    title = "All data sets" if part.source == POOLED else part.source
    head = ["class", "images", "told", "recall", "precision", "F1"]
    return "\n\n".join((f"## {title}", _table(head, scores), _table(["true / told", *names], told)))


def _text(value: Interval | None) -> str:
    return "-" if value is None else str(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;").replace("\n", " ")
