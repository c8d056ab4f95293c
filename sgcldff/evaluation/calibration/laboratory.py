"""A model calibrated for a laboratory: written as a model of its own, while the one it came from stays as it is."""

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
from sgcldff.evaluation.calibration.labelled_cells import TypedCells
from sgcldff.evaluation.drift.observe import embed
from sgcldff.models.checkpoint import TRAINED_ON, WEIGHTS_FILE, saved_digest
from sgcldff.models.model import Model, load_model, save_model
from sgcldff.models.nets.base import Network
from sgcldff.models.reference import Reference, reference_digest
from sgcldff.models.training.examples import cached_scene, centre_view
from sgcldff.saliency.priors import build
from sgcldff.slides.images import sha256_of

CALIBRATION_FILE = "calibration.json"
"""Beside a calibrated model: what it came from, by which cells, and what they showed."""
LAYOUT = "calibration/1"


@dataclass(frozen=True)
class Calibration:
    """What came of calibrating a model."""

    parent: str
    """Digest of the weights that were calibrated."""
    folder: Path | None
    """Of the calibrated model; None where nothing helped, and nothing was written."""
    adaptation: Adaptation
    cells: Counter[str]
    """Cells by label."""

    def __str__(self) -> str:
        before, after = self.adaptation.before, self.adaptation.after
        found = f"{before.cells} cells: {before.right} right with the model as it is ({_percent(before.interval())})"
        if self.folder is None:
            return f"{found}; neither a bias per type nor a small head does better on cells held out: left as it is"
        better = f"{after.right} of those held out with a {self.adaptation.chosen.kind} ({_percent(after.interval())})"
        return f"{found}, {better}; p = {self.adaptation.p_value:.2g}"


def _percent(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:.0%} to {high:.0%}"


def calibrate(folder: str | Path, samples: Sequence[Sample], out: str | Path) -> Calibration:
    """Fit a model to labelled cells of a laboratory without training it, where that helps.

    Outlines and embeddings stay as they are; the layer that turns embeddings into types is changed as `adapt` chooses.
    The calibrated model names the images among those it learned from, so that it is not tested on them.

    Parameters
    ----------
    folder
        Of the model.
    samples
        Images with a cell of known type at the centre, or shown by mask or box; others are passed over.
    out
        Folder of the calibrated model; not made where nothing helps.

    Raises
    ------
    InputError
        If the model is damaged, cells are too few, an image cannot be read, or `out` holds a model already.
    """
    origin, place = Path(folder), Path(out)
    if (place / WEIGHTS_FILE).exists():
        raise InputError(f"{place}: holds a model already; remove it, or name another folder")
    model = load_model(origin, "cpu")
    parent = model.digest
    cells, used = typed_cells(model, samples)
    adaptation, counts = adapt(cells), Counter(str(sample.label) for sample in used)
    calibration = Calibration(parent, place if adaptation.helps else None, adaptation, counts)
    if adaptation.helps:
        apply(adaptation.adjustment, model)
        save_model(place, model.spec, model.net)
        _write_records(origin, calibration, used)
    return calibration


def typed_cells(model: Model, samples: Sequence[Sample]) -> tuple[TypedCells, tuple[Sample, ...]]:
    """Embed the cells whose label rules some class out; gives the samples that have one, in the order of the cells.

    Raises
    ------
    InputError
        If an image cannot be read.
    LabelError
        If the model knows a label not.
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
    marked = np.array(allowed, bool).reshape(-1, len(model.spec.labels.classes))
    return TypedCells(logits.astype(np.float64), embedding.astype(np.float64), marked, groups), tuple(used)


def apply(adjustment: Adjustment, model: Model) -> None:
    """Change the layer of a model that turns embeddings into types, in place."""
    layer = cast(Network, model.net).type_layer
    with torch.no_grad():
        layer.weight.add_(torch.from_numpy(adjustment.weight))
        layer.bias.add_(torch.from_numpy(adjustment.bias))


def _write_records(origin: Path, calibration: Calibration, used: Sequence[Sample]) -> None:
    """Write what travels with a calibrated model: its origin, its images, and the reference of its new weights."""
    place, found = cast(Path, calibration.folder), calibration.adaptation
    told = {
        "layout": LAYOUT,
        "parent": calibration.parent,
        "model": saved_digest(place),
        "chosen": asdict(found.chosen),
        "cells": dict(sorted(calibration.cells.items())),
        "before": asdict(found.before) | {"accuracy_interval": found.before.interval()},
        "after": asdict(found.after) | {"accuracy_interval": found.after.interval()},
        "p_value": found.p_value,
    }
    with atomic_write(place / CALIBRATION_FILE) as partial:
        partial.write_text(json.dumps(told, indent=2))
    learned, images = origin / TRAINED_ON, {sample.sha256 or sha256_of(sample.image) for sample in used}
    former: dict[str, Any] = {"sha256": [], "complete": False}
    if learned.is_file():
        former = json.loads(learned.read_text())
    with atomic_write(place / TRAINED_ON) as partial:
        partial.write_text(json.dumps(former | {"sha256": sorted(images.union(former["sha256"]))}, indent=2))
    if reference_digest(origin):
        replace(Reference.open(origin), model=saved_digest(place)).save(place)
