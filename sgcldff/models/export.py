"""Export of a model from a registry or a training run, for use elsewhere."""

from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import cast

import torch

from sgcldff.core.errors import InputError
from sgcldff.models.checkpoint import CALIBRATION_FILE, CONFUSION_FILE, TRAINED_ON, WEIGHTS_FILE, saved_digest
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets.base import Network
from sgcldff.models.reference import Reference, read_typicality, reference_digest


def export_model(
    source: str | Path,
    to: str | Path,
    *,
    half: bool = False,
    temperature: float = 1.0,
    min_confidence: float | None = None,
) -> Path:
    """Write a saved model to a folder, with its reference and its records of training images and calibration, if any.

    Parameters
    ----------
    half
        As for `save_model`. The reference still describes the model before rounding, from which embeddings differ only
        slightly, but names the new weights.
    temperature
        What the logits of types are divided by, more than 0.
    min_confidence
        As in `ModelSpec`; by default the model's own.

    Raises
    ------
    MissingInputError
        If a file of the model is missing.
    InputError
        If the model is damaged, does not fit into half precision, or `to` already contains a model.
    """
    origin, target = Path(source), Path(to)
    if (target / WEIGHTS_FILE).exists():
        raise InputError(f"{target}: already contains a model; remove it, or name another folder")
    model = load_model(origin, "cpu")
    read_typicality(origin, model.digest)
    spec = model.spec if min_confidence is None else replace(model.spec, min_confidence=min_confidence)
    layer = cast(Network, model.net).type_layer
    with torch.no_grad():
        layer.weight.div_(temperature)
        layer.bias.div_(temperature)
    save_model(target, spec, model.net, half=half)
    for record in (TRAINED_ON, CALIBRATION_FILE, CONFUSION_FILE):
        if (origin / record).is_file():
            copyfile(origin / record, target / record)
    if reference_digest(origin):
        replace(Reference.open(origin), model=saved_digest(target)).save(target)
    return target
