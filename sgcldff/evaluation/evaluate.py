"""Evaluate a model on images it never saw."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from sgcldff.core.errors import InputError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.records import Sample
from sgcldff.core.settings import EvalSpec, ModelSpec
from sgcldff.evaluation.explain import Explanation, explain, unexplained
from sgcldff.evaluation.metrics import (
    Boundary,
    Overlap,
    cell_boundary,
    cell_overlap,
    nucleus_boundary,
    nucleus_overlap,
)
from sgcldff.evaluation.predict import Reading, read
from sgcldff.evaluation.predictions import COUNTS, PROBABILITY, Choice, Predictions, tabulate
from sgcldff.evaluation.report import EvalReport, SetAside, score
from sgcldff.evaluation.scorable import require_same_space
from sgcldff.models.model import Model
from sgcldff.models.training.examples import ImageChange, Scene, read_scene
from sgcldff.slides.images import sha256_of

Progress = Callable[[int, int], None]
"""Called with images done and images to do."""

CHUNK = 16
"""Images held in memory at a time."""


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
    LabelError, InputError
        As `predict`.
    """
    predictions, aside = predict(model, samples, progress, trained_on)
    return replace(score(predictions, model.spec.labels, spec or EvalSpec()), set_aside=aside)


def predict(
    model: Model,
    samples: Sequence[Sample],
    progress: Progress | None = None,
    trained_on: frozenset[str] = frozenset(),
    change: ImageChange | None = None,
    *,
    explained: bool = True,
) -> tuple[Predictions, tuple[SetAside, ...]]:
    """Read every image end to end, changed if asked to; gives what was said of it, and what was set aside.

    Labels that are finer than the model's classes are taken for those classes. Without explanations, whose columns are
    then null, no gradient is computed.

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
    samples = [replace(sample, label=sample.label and space.resolve(sample.label)) for sample in samples]
    choices, look = _choices(samples, space), explain if explained else unexplained
    rows, aside = [], []
    for start in range(0, len(samples), CHUNK):
        readable = partial(_scene, mpp=model.spec.mpp, trained_on=trained_on, change=change)
        scenes, unread = _scenes(samples[start : start + CHUNK], readable)
        aside += unread
        for explanation, hashes in _explained(model, scenes, look):
            rows.append(_row(explanation, hashes, choices[explanation.reading.sample.source], model.spec))
        if progress is not None:
            progress(min(start + CHUNK, len(samples)), len(samples))
    if not rows:
        raise InputError(f"none of {len(samples)} images can be scored{_first(aside)}: name other images")
    return tabulate(rows, space.classes, model.digest), tuple(aside)


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


def _scenes(samples: Sequence[Sample], readable: Callable[[Sample], Hashed]) -> tuple[list[Hashed], list[SetAside]]:
    scenes, aside = [], []
    for sample in samples:
        try:
            scenes.append(readable(sample))
        except (InputError, OSError) as error:
            aside.append(SetAside(sample.id, str(error)))
    return scenes, aside


def _scene(
    sample: Sample, mpp: float, trained_on: frozenset[str] = frozenset(), change: ImageChange | None = None
) -> Hashed:
    scene = read_scene(sample, mpp, change)
    sha256 = sample.sha256 or sha256_of(sample.image)
    if sha256 in trained_on:
        raise InputError(f"{sample.image}: the model was trained on this image; evaluate on images it never saw")
    mask = sample.mask_sha256 or (sha256_of(sample.mask) if sample.mask else "")
    return sample, scene, (sha256, mask)


Look = Callable[[Model, Sequence[Reading]], tuple[Explanation, ...]]


def _explained(
    model: Model, scenes: Sequence[Hashed], look: Look = explain
) -> Iterator[tuple[Explanation, tuple[str, str]]]:
    readings = read(model, [(sample, scene) for sample, scene, _ in scenes])
    return zip(look(model, readings), (hashes for _, _, hashes in scenes), strict=True)


def _row(explanation: Explanation, hashes: tuple[str, str], choice: Choice, spec: ModelSpec) -> dict[str, object]:
    """Make a row of `schema` from what was read and the hashes of image and mask, so that no image need be kept."""
    reading = explanation.reading
    sample, probabilities = reading.sample, reading.probabilities
    told, confidence = choice.tell(probabilities, sample.label, spec.labels)
    identity = {name: getattr(sample, name) for name in ("id", "source", "group", "label")}
    identity |= dict(zip(("sha256", "mask_sha256"), hashes, strict=True))
    answer = {"told": told, "confidence": confidence, "found": reading.found}
    looked = {"cam_on_cell": _null(explanation.on_cell), "saliency_consistency": _null(explanation.consistency)}
    chances = {PROBABILITY + name: float(p) for name, p in zip(spec.labels.classes, probabilities, strict=True)}
    return identity | answer | _counts(reading, spec.mpp) | looked | chances


def _counts(reading: Reading, mpp: float) -> dict[str, int | None]:
    pair = (reading.labels, reading.scene.target)
    counted: dict[str, Overlap | Boundary | None] = {
        "cell_": cell_overlap(*pair),
        "nucleus_": nucleus_overlap(*pair),
        "cell_boundary_": cell_boundary(*pair, mpp),
        "nucleus_boundary_": nucleus_boundary(*pair, mpp),
    }
    return {
        start + name: getattr(counted[start], name) if counted[start] else None
        for start, names in COUNTS.items()
        for name in names
    }


def _null(value: float) -> float | None:
    return value if np.isfinite(value) else None


def examples(model: Model, samples: Sequence[Sample], count: int = 12) -> tuple[Explanation, ...]:
    """Explain up to `count` readable images, evenly spread over `samples`, for `explain.picture`."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    scenes, _ = _scenes([samples[place] for place in places], partial(_scene, mpp=model.spec.mpp))
    return tuple(explanation for explanation, _ in _explained(model, scenes))
