"""Evaluate a model on images it never saw, and decide whether a challenger may replace the champion."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgcldff.data import Scene, read_scene
from sgcldff.errors import InputError, LabelError
from sgcldff.explain import Explanation, explain
from sgcldff.images import sha256_of
from sgcldff.labels import LabelSpace
from sgcldff.metrics import (
    Floats,
    Overlap,
    bootstrap,
    cell_overlap,
    iou,
    mean_of,
    nanmean,
    nucleus_overlap,
    quantiles,
    type_scores,
)
from sgcldff.model import Model
from sgcldff.predictions import PROBABILITY, Choice, Predictions, tabulate
from sgcldff.reading import read
from sgcldff.records import Sample
from sgcldff.scores import EvalReport, SetAside, score, typing_of
from sgcldff.specs import EvalSpec, PromotionSpec

Progress = Callable[[int, int], None]
"""Called with images done and images to do."""

CHUNK = 16
"""Images held in memory at a time."""
ROUNDING = 1e-9

__all__ = ["EvalReport", "Predictions", "Progress", "SetAside", "Verdict", "compare", "evaluate", "examples"]


def evaluate(
    model: Model,
    samples: Sequence[Sample],
    spec: EvalSpec | None = None,
    progress: Progress | None = None,
    trained_on: frozenset[str] = frozenset(),
) -> EvalReport:
    """Read every image end to end and score what was read.

    Images that cannot be read, and images that the model was trained on, are set aside with the reason; the report
    lists them.

    Parameters
    ----------
    trained_on
        sha256 of the images that the model learned from.

    Raises
    ------
    LabelError
        If the samples have labels that the model's space does not know; raised before any work.
    InputError
        If there is nothing to score, two samples share an id, or the model's answers are not finite.
    """
    space = model.spec.labels
    require_same_space(samples, space)
    require_unique(samples)
    choices = _choices(samples, space)
    rows, aside = [], []
    for start in range(0, len(samples), CHUNK):
        scenes, unread = _scenes(samples[start : start + CHUNK], model.spec.mpp, trained_on)
        aside += unread
        for explanation, hashes in _explained(model, scenes):
            rows.append(_row(explanation, hashes, choices[explanation.reading.sample.source], space))
        if progress is not None:
            progress(min(start + CHUNK, len(samples)), len(samples))
    if not rows:
        raise InputError(f"none of {len(samples)} images can be scored{_first(aside)}: name other images")
    report = score(tabulate(rows, space.classes, model.digest), space, spec or EvalSpec())
    return replace(report, set_aside=tuple(aside))


def require_same_space(samples: Iterable[Sample], space: LabelSpace) -> None:
    """Make sure that the model's label space knows all labels of the samples.

    Raises
    ------
    LabelError
        Naming both spaces if it does not.
    """
    labels = sorted({sample.label for sample in samples if sample.label is not None})
    unknown = [label for label in labels if label not in space.known]
    if unknown:
        raise LabelError(
            f"the model has another label space: the images are labelled {', '.join(labels)}, the model tells"
            f" {', '.join(space.known)} and knows no {', '.join(unknown)}; evaluate a model trained for these labels"
        )


def require_unique(samples: Iterable[Sample]) -> None:
    """Make sure that no two samples share an id.

    Raises
    ------
    InputError
        Naming the first id that occurs twice.
    """
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise InputError(f"image id {sample.id!r} occurs twice; give every image its own id")
        seen.add(sample.id)


def _choices(samples: Iterable[Sample], space: LabelSpace) -> dict[str, Choice]:
    labels: dict[str, set[str | None]] = defaultdict(set)
    for sample in samples:
        labels[sample.source].add(sample.label)
    return {source: Choice.among(used, space) for source, used in labels.items()}


def _first(aside: Sequence[SetAside]) -> str:
    return f" (first reason, {aside[0].id}: {aside[0].reason})" if aside else ""


Hashed = tuple[Sample, Scene, tuple[str, str]]
"""With the sha256 of image and mask."""


def _scenes(samples: Sequence[Sample], mpp: float, trained_on: frozenset[str]) -> tuple[list[Hashed], list[SetAside]]:
    scenes, aside = [], []
    for sample in samples:
        try:
            scenes.append(_scene(sample, mpp, trained_on))
        except (InputError, OSError) as error:
            aside.append(SetAside(sample.id, str(error)))
    return scenes, aside


def _scene(sample: Sample, mpp: float, trained_on: frozenset[str]) -> Hashed:
    scene = read_scene(sample, mpp)
    sha256 = sample.sha256 or sha256_of(sample.image)
    if sha256 in trained_on:
        raise InputError(f"{sample.image}: the model was trained on this image; evaluate on images it never saw")
    mask = sample.mask_sha256 or (sha256_of(sample.mask) if sample.mask else "")
    return sample, scene, (sha256, mask)


def _explained(model: Model, scenes: Sequence[Hashed]) -> Iterator[tuple[Explanation, tuple[str, str]]]:
    readings = read(model, [(sample, scene) for sample, scene, _ in scenes])
    return zip(explain(model, readings), (hashes for _, _, hashes in scenes), strict=True)


def _row(explanation: Explanation, hashes: tuple[str, str], choice: Choice, space: LabelSpace) -> dict[str, object]:
    """Make a row of `schema` from what was read and the hashes of image and mask, so that no image need be kept."""
    reading = explanation.reading
    sample, probabilities = reading.sample, reading.probabilities
    told, confidence = choice.tell(probabilities, sample.label, space)
    identity = {name: getattr(sample, name) for name in ("id", "source", "group", "label")}
    identity |= dict(zip(("sha256", "mask_sha256"), hashes, strict=True))
    answer = {"told": told, "confidence": confidence, "found": reading.found}
    cell = _counts("cell", cell_overlap(reading.labels, reading.scene.target))
    nucleus = _counts("nucleus", nucleus_overlap(reading.labels, reading.scene.target))
    looked = {"cam_on_cell": _null(explanation.on_cell), "saliency_consistency": _null(explanation.consistency)}
    chances = {PROBABILITY + name: float(p) for name, p in zip(space.classes, probabilities, strict=True)}
    return identity | answer | cell | nucleus | looked | chances


def _counts(part: str, overlap: Overlap | None) -> dict[str, int | None]:
    names = (f"{part}_intersection", f"{part}_union")
    return dict(zip(names, (overlap.intersection, overlap.union) if overlap else (None, None), strict=True))


def _null(value: float) -> float | None:
    return value if np.isfinite(value) else None


def examples(model: Model, samples: Sequence[Sample], count: int = 12) -> tuple[Explanation, ...]:
    """Explain up to `count` readable images, evenly spread over `samples`, for `explain.picture`."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    scenes, _ = _scenes([samples[place] for place in places], model.spec.mpp, frozenset())
    return tuple(explanation for explanation, _ in _explained(model, scenes))


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger may become champion, and why."""

    promote: bool
    reasons: tuple[str, ...]
    """With figures; all of them where it is refused."""
    figures: Mapping[str, float]
    """Scores of both, their difference with its interval, and recalls of every label."""


def compare(champion: Predictions | None, challenger: Predictions, spec: PromotionSpec | None = None) -> Verdict:
    """Compare two models on the same images, paired, by a bootstrap over groups.

    The score is the mean of cell IoU, nucleus IoU and macro F1, as far as the images tell them, over all data sets. The
    challenger is promoted where the lower end of the interval of its lead is at least `-spec.margin` and no label's
    recall is more than `spec.class_margin` below the champion's. Without a champion it is promoted.

    Raises
    ------
    InputError
        If the two were not scored on the same images with the same labels.
    """
    rules = spec or PromotionSpec()
    if champion is None:
        return Verdict(True, ("there is no champion yet",), {})
    if champion.truth != challenger.truth:
        raise InputError(
            f"champion {champion.model} and challenger {challenger.model} were scored on other images or labels"
            f" (digests {champion.truth} and {challenger.truth}): evaluate both on the same test split"
        )
    lead = _lead(champion, challenger, rules.evaluation)
    falls = _recalls(champion, challenger)
    refusals = (*_score_refusals(lead, rules), *_recall_refusals(falls, rules))
    figures = lead | {
        f"{name} recall of {label}": value for label, pair in falls.items() for name, value in pair.items()
    }
    return Verdict(not refusals, refusals or (_lead_text(lead, rules),), figures)


def _lead(champion: Predictions, challenger: Predictions, spec: EvalSpec) -> dict[str, float]:
    """Score both on all images and on the same draws."""
    both = [(_gate(side), side.groups) for side in (champion, challenger)]
    before, after = (float(gate(np.ones((1, len(groups))))[0, 0]) for gate, groups in both)
    figures = {"champion": before, "challenger": after, "difference": after - before}
    if len(set(champion.groups)) < 2 or not np.isfinite(after - before):
        return figures
    old, new = (bootstrap(gate, groups, spec)[:, 0] for gate, groups in both)
    low, high = quantiles(new - old, spec)
    return figures | {"low": low, "high": high}


def _gate(predictions: Predictions) -> Callable[[Floats], Floats]:
    """From weights of the images (R, N) to the mean of the available scores (R, 1)."""
    outlines = [
        iou(predictions.numbers(f"{part}_intersection"), predictions.numbers(f"{part}_union"))
        for part in ("cell", "nucleus")
    ]
    mean, (typing, typed) = mean_of(np.column_stack(outlines)), typing_of(predictions)

    def reduce(weights: Floats) -> Floats:
        kinds = type_scores(typing)(weights[:, typed])[:, 2:3] if typed.any() else np.full((len(weights), 1), np.nan)
        return nanmean(np.column_stack((mean(weights), kinds)))[:, None]

    return reduce


def _recalls(champion: Predictions, challenger: Predictions) -> dict[str, dict[str, float]]:
    before, after = _recall(champion), _recall(challenger)
    return {label: {"champion's": before[label], "challenger's": after[label]} for label in before}


def _recall(predictions: Predictions) -> dict[str, float]:
    hits: dict[str, list[bool]] = defaultdict(list)
    for label, told in zip(predictions.column("label"), predictions.column("told"), strict=True):
        if label is not None:
            hits[label].append(label == told)
    return {label: float(np.mean(right)) for label, right in sorted(hits.items())}


def _score_refusals(lead: Mapping[str, float], spec: PromotionSpec) -> tuple[str, ...]:
    if not np.isfinite(lead["difference"]):
        return ("the images have neither outlines nor two labels to score: name a test split that has",)
    if "low" not in lead:
        return ("all images are of one group, so no interval can be given: test on at least two patients or slides",)
    if lead["low"] < -spec.margin - ROUNDING:
        return (_lead_text(lead, spec),)
    return ()


def _lead_text(lead: Mapping[str, float], spec: PromotionSpec) -> str:
    side = "below" if lead["low"] < -spec.margin - ROUNDING else "at or above"
    return (
        f"mean score {lead['challenger']:.4f} against the champion's {lead['champion']:.4f}: difference"
        f" {lead['difference']:+.4f} ({lead['low']:+.4f} to {lead['high']:+.4f}), lower end {side} the limit"
        f" of {-spec.margin:+.4f}"
    )


def _recall_refusals(recalls: Mapping[str, Mapping[str, float]], spec: PromotionSpec) -> Iterator[str]:
    for label, pair in recalls.items():
        before, after = pair["champion's"], pair["challenger's"]
        if before - after > spec.class_margin + ROUNDING:
            yield (
                f"recall of {label} falls from {before:.3f} to {after:.3f}, by {before - after:.3f}: the limit is"
                f" {spec.class_margin:.3f}"
            )
