"""Calibration of a model for a laboratory; the result is a new model, the original one is not changed."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from scipy.special import softmax

from sgcldff.core.errors import InputError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.labels import LabelSpace
from sgcldff.core.records import PROBABILITY, Sample
from sgcldff.core.settings import EvalSpec, ModelSpec
from sgcldff.core.wording import counted
from sgcldff.data.adapters.base import Rejected
from sgcldff.data.adapters.reviewed import ADAPTER
from sgcldff.evaluation.calibration.adaptation import Adaptation, Adjustment, HeldOut, Kind, adapt
from sgcldff.evaluation.calibration.labelled_cells import LabelledCells
from sgcldff.evaluation.drift.observe import embed
from sgcldff.evaluation.metrics import Doubles
from sgcldff.evaluation.predictions import PREDICTED, AnswerLabels, Predictions, tabulate
from sgcldff.evaluation.report import METRICS, POOLED, Scores, score_source
from sgcldff.models.checkpoint import CALIBRATION_FILE, CONFUSION_FILE, TRAINED_ON, WEIGHTS_FILE, saved_digest
from sgcldff.models.model import Model, load_model, save_model
from sgcldff.models.nets.base import Network
from sgcldff.models.reference import Reference, reference_digest
from sgcldff.models.training.examples import cached_scene, centre_view
from sgcldff.saliency.priors import build
from sgcldff.slides.images import sha256_of

LAYOUT = "calibration/2"
SCORES = ("accuracy", "macro_f1", "calibration_error")
"""Scores by which a calibration is shown."""
KIND_WORDS = {Kind.NOTHING: "no change", Kind.BIAS: "a bias per type", Kind.HEAD: "a small head on the embeddings"}


@dataclass(frozen=True)
class LabCalibration:
    """The outcome of calibrating a model for a laboratory."""

    parent: str
    """Digest of the weights that were calibrated."""
    folder: Path | None
    """Folder of the calibrated model; None if calibration does not help, and nothing was written."""
    adaptation: Adaptation
    cells: Counter[str]
    """Cells by label."""
    missing: tuple[str, ...]
    """Classes of the model of which there is no cell."""
    before: Scores
    """Of the unchanged model on these cells; intervals are resampled by slide, or by cell if there is only one."""
    after: Scores
    """Of the chosen change, each cell held out of the fit; `before` if nothing was changed."""

    @property
    def summary(self) -> str:
        """What was changed, as in `ModelSpec.calibrated`."""
        change = KIND_WORDS[self.adaptation.chosen.kind]
        return f"{change}, fitted to {counted(self.cells.total(), 'reviewed cell')}; original {self.parent}"

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """Name of each of `SCORES`, of the unchanged model and of the chosen change, with intervals."""
        pairs = ((name, getattr(self.before, name), getattr(self.after, name)) for name in SCORES)
        return tuple((METRICS[name], str(before or "-"), str(after or "-")) for name, before, after in pairs)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user has to know beside the scores."""
        notes = []
        if not self.adaptation.helps:
            reason = (
                "all cells have the same type" if len(self.cells) == 1 else "no change does better on held-out cells"
            )
            notes.append(f"the model is left as it is: {reason}")
        if self.missing:
            notes.append(f"no cell is a {' or '.join(self.missing)}: nothing was learned about these types")
        return tuple(notes)

    def __str__(self) -> str:
        before, after = self.adaptation.before.right, self.adaptation.after.right
        right = f"{before} correct as it was, {after} when held out of the calibration"
        return "; ".join((f"{counted(self.cells.total(), 'cell')}: {right}", *self.notes))


def reviewed_cells(
    store: str | Path, labels: LabelSpace, test: Collection[Sample] = ()
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Read the reviewed cells on which a model with certain labels may be calibrated, and why others are left out.

    Parameters
    ----------
    test
        Images on which the model will be tested: their slides are left out.

    Raises
    ------
    MissingInputError
        If the folder is no store of reviews.
    """
    images, slides = {sample.sha256 for sample in test}, {sample.group for sample in test}
    usable, left_out = list[Sample](), Counter[str]()
    for found in ADAPTER.scan(Path(store)):
        if isinstance(found, Rejected):
            left_out[found.reason] += 1
            continue
        sample = replace(found, sha256=sha256_of(found.image))
        if sample.sha256 in images or sample.group in slides:
            left_out["on a slide of the test set"] += 1
        elif sample.label not in labels.known:
            left_out[f"{sample.label} is unknown to the model"] += 1
        else:
            usable.append(sample)
    return tuple(usable), tuple(f"{counted(number, 'cell')}: {reason}" for reason, number in left_out.items())


def calibrate_for_lab(folder: str | Path, samples: Sequence[Sample], out: str | Path) -> LabCalibration:
    """Calibrate a model on labelled cells of a laboratory without training, if that helps.

    Outlines and embeddings do not change; the layer that maps embeddings to types is changed as chosen by `adapt`. The
    images are recorded among the calibrated model's training images, so that it is not tested on them.

    Parameters
    ----------
    folder
        Folder of the model.
    samples
        Images with a cell of known type at the centre, or shown by mask or box; others are ignored.
    out
        Folder of the calibrated model; not created if calibration does not help.

    Raises
    ------
    InputError
        If the model is damaged or calibrated already, there are too few cells, an image cannot be read, or `out`
        contains a model.
    """
    origin, target = Path(folder), Path(out)
    if (target / WEIGHTS_FILE).exists():
        raise InputError(f"{target}: contains a model already; remove it, or name another folder")
    model = load_model(origin, "cpu")
    if model.spec.calibrated:
        raise InputError(
            f"{origin}: calibrated already ({model.spec.calibrated}); calibrate the original with all cells"
        )
    parent = model.digest
    cells, used = labelled_cells(model, samples)
    adaptation = adapt(cells)
    held_out = [_predictions(one.logits, used, model.spec) for one in (adaptation.before, adaptation.after)]
    before, after = (score_source(one, POOLED, model.spec.labels, EvalSpec()) for one in held_out)
    calibration = LabCalibration(
        parent,
        target if adaptation.helps else None,
        adaptation,
        Counter(str(sample.label) for sample in used),
        tuple(name for k, name in enumerate(model.spec.labels.classes) if not cells.allowed[:, k].any()),
        before,
        after,
    )
    if adaptation.helps:
        apply_adjustment(adaptation.adjustment, model)
        save_model(target, replace(model.spec, calibrated=calibration.summary), model.net)
        _write_records(origin, target, calibration, used)
        held_out[1].confusion.write(target / CONFUSION_FILE)
    return calibration


def _predictions(logits: Doubles, samples: Sequence[Sample], spec: ModelSpec) -> Predictions:
    """Tabulate the types that logits (N, C) predict for the cells of `samples`."""
    space = spec.labels
    labels = [space.resolve(str(sample.label)) for sample in samples]
    answers = AnswerLabels.for_labels(labels, space)
    one_slide = len({sample.group for sample in samples}) == 1
    rows = []
    for sample, label, probabilities in zip(samples, labels, softmax(logits, axis=1), strict=True):
        predicted, confidence = answers.predict(probabilities, label, space)
        rows.append(
            {
                "id": sample.id,
                "source": sample.source,
                "group": sample.id if one_slide else sample.group,
                "label": label,
                PREDICTED: predicted,
                "confidence": confidence,
                **{PROBABILITY + name: float(p) for name, p in zip(space.classes, probabilities, strict=True)},
            }
        )
    return tabulate(rows, space.classes, "")


def labelled_cells(model: Model, samples: Sequence[Sample]) -> tuple[LabelledCells, tuple[Sample, ...]]:
    """Embed the cells whose label excludes some class; returns them with their samples, in the same order.

    Raises
    ------
    InputError
        If an image cannot be read.
    LabelError
        If a label is unknown to the model.
    """
    stack, side = build(model.spec.prior), model.spec.crop_px
    crops, allowed, used = [], [], []
    for sample in samples:
        classes = model.spec.labels.allowed(sample.label)
        view = centre_view(scene := cached_scene(sample, model.spec.mpp), side)
        if view.on_cell and not classes.all():
            crops.append(np.dstack((view.cut(scene.rgb), *(view.cut(channel) for channel in stack(scene.rgb)))))
            allowed.append(classes)
            used.append(sample)
    embedding = embed(model, np.asarray(crops, np.float32).reshape(-1, side, side, 3 + len(model.spec.prior.names)))
    layer = cast(Network, model.net).type_layer
    with torch.inference_mode():
        logits = layer(torch.from_numpy(embedding)).numpy()
    groups = tuple(f"{sample.source}/{sample.group}" for sample in used)
    mask = np.array(allowed, bool).reshape(-1, len(model.spec.labels.classes))
    return LabelledCells(logits.astype(np.float64), embedding.astype(np.float64), mask, groups), tuple(used)


def apply_adjustment(adjustment: Adjustment, model: Model) -> None:
    """Change the layer of a model that maps embeddings to types, in place."""
    layer = cast(Network, model.net).type_layer
    with torch.no_grad():
        layer.weight.add_(torch.from_numpy(adjustment.weight))
        layer.bias.add_(torch.from_numpy(adjustment.bias))


def _figures(held_out: HeldOut, scores: Scores) -> dict[str, object]:
    intervals = {name: getattr(scores, name) for name in SCORES}
    return {
        "cells": len(held_out.logits),
        "right": held_out.right,
        "log_loss": held_out.log_loss,
        **{name: interval and asdict(interval) for name, interval in intervals.items()},
    }


def _write_records(origin: Path, target: Path, calibration: LabCalibration, used: Sequence[Sample]) -> None:
    """Write the records beside a calibrated model: its origin, its training images, and its reference."""
    adaptation, digest = calibration.adaptation, saved_digest(target)
    record = {
        "layout": LAYOUT,
        "parent": calibration.parent,
        "chosen": asdict(adaptation.chosen),
        "cells": dict(sorted(calibration.cells.items())),
        "before": _figures(adaptation.before, calibration.before),
        "after": _figures(adaptation.after, calibration.after),
    }
    write_json(target / CALIBRATION_FILE, record)
    images = {sample.sha256 or sha256_of(sample.image) for sample in used}
    training: dict[str, Any] = {"sha256": [], "complete": False}
    if (origin / TRAINED_ON).is_file():
        training = read_json(origin / TRAINED_ON, "restore the model")
    write_json(target / TRAINED_ON, training | {"sha256": sorted(images.union(training["sha256"]))})
    if reference_digest(origin):
        replace(Reference.open(origin), model=digest).save(target)
