"""Calibration of a model for a laboratory; the result is a new model, the original one is not changed."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError
from sgcldff.core.records import Sample
from sgcldff.evaluation.calibration.adaptation import Adaptation, Adjustment, adapt
from sgcldff.evaluation.calibration.labelled_cells import LabelledCells
from sgcldff.evaluation.drift.observe import embed
from sgcldff.models.checkpoint import TRAINED_ON, WEIGHTS_FILE, saved_digest
from sgcldff.models.model import Model, load_model, save_model
from sgcldff.models.nets.base import Network
from sgcldff.models.reference import Reference, reference_digest
from sgcldff.models.training.examples import cached_scene, centre_view
from sgcldff.saliency.priors import build
from sgcldff.slides.images import sha256_of

CALIBRATION_FILE = "calibration.json"
"""Beside a calibrated model: its origin, the cells it was calibrated on, and the results."""
LAYOUT = "calibration/1"


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

    def __str__(self) -> str:
        before, after = self.adaptation.before, self.adaptation.after
        text = f"{before.cells} cells: {before.right} correct with the unchanged model ({_percent(before.interval())})"
        if self.folder is None:
            return f"{text}; neither a bias per type nor a small head does better on held-out cells: left unchanged"
        better = f"{after.right} of the held-out cells with a {self.adaptation.chosen.kind}"
        return f"{text}, {better} ({_percent(after.interval())}); p = {self.adaptation.p_value:.2g}"


def _percent(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:.0%} to {high:.0%}"


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
        If the model is damaged, there are too few cells, an image cannot be read, or `out` contains a model.
    """
    origin, target = Path(folder), Path(out)
    if (target / WEIGHTS_FILE).exists():
        raise InputError(f"{target}: contains a model already; remove it, or name another folder")
    model = load_model(origin, "cpu")
    parent = model.digest
    cells, used = labelled_cells(model, samples)
    adaptation, counts = adapt(cells), Counter(str(sample.label) for sample in used)
    calibration = LabCalibration(parent, target if adaptation.helps else None, adaptation, counts)
    if adaptation.helps:
        apply_adjustment(adaptation.adjustment, model)
        save_model(target, model.spec, model.net)
        _write_records(origin, target, calibration, used)
    return calibration


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


def _write_records(origin: Path, target: Path, calibration: LabCalibration, used: Sequence[Sample]) -> None:
    """Write the records beside a calibrated model: its origin, its training images, and its reference."""
    adaptation, digest = calibration.adaptation, saved_digest(target)
    record = {
        "layout": LAYOUT,
        "parent": calibration.parent,
        "model": digest,
        "chosen": asdict(adaptation.chosen),
        "cells": dict(sorted(calibration.cells.items())),
        "before": asdict(adaptation.before) | {"accuracy_interval": adaptation.before.interval()},
        "after": asdict(adaptation.after) | {"accuracy_interval": adaptation.after.interval()},
        "p_value": adaptation.p_value,
    }
    with atomic_write(target / CALIBRATION_FILE) as partial:
        partial.write_text(json.dumps(record, indent=2))
    images = {sample.sha256 or sha256_of(sample.image) for sample in used}
    training: dict[str, Any] = {"sha256": [], "complete": False}
    if (origin / TRAINED_ON).is_file():
        training = json.loads((origin / TRAINED_ON).read_text())
    with atomic_write(target / TRAINED_ON) as partial:
        partial.write_text(json.dumps(training | {"sha256": sorted(images.union(training["sha256"]))}, indent=2))
    if reference_digest(origin):
        replace(Reference.open(origin), model=digest).save(target)
