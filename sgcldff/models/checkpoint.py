"""The files of a saved model, read without torch."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from sgcldff.core.boundary import reading
from sgcldff.core.errors import MissingInputError
from sgcldff.core.settings import ModelSpec
from sgcldff.core.validation import validated

SPEC_FILE = "spec.json"
WEIGHTS_FILE = "weights.safetensors"
"""Weights in float32, or in float16 if the model was saved in half precision."""
TRAINED_ON = "trained_on.json"
"""Digests of the images that a model was trained on, stored beside it if known, and registered with it."""
CONFUSION_FILE = "confusion.json"
"""What the model predicted for labelled cells that it was not trained on (`sgcldff.counting.confusion`)."""
CONVOLUTIONS_BEFORE = 3
"""`NetSpec.convolutions` of models whose spec does not name it."""
CALIBRATION_FILE = "calibration.json"
"""Beside a calibrated model: the digest of its original, the cells it was calibrated on, and the results."""


def open_spec(folder: str | Path) -> ModelSpec:
    """Read the spec of a model, after checking that all its files exist.

    Raises
    ------
    MissingInputError
        If a file is missing.
    InputError
        If this version does not understand the spec.
    """
    for name in (SPEC_FILE, WEIGHTS_FILE):
        if not (Path(folder) / name).is_file():
            raise MissingInputError(f"{folder}: contains no {name}; name a folder that training or the registry wrote")
    return read_spec(Path(folder) / SPEC_FILE)


def original_digest(folder: str | Path) -> str | None:
    """Return the digest of the model from which a calibrated one was made; None if it is not calibrated.

    Raises
    ------
    InputError
        If the record of the calibration is damaged.
    """
    path = Path(folder) / CALIBRATION_FILE
    if not path.is_file():
        return None
    with reading(path, "damaged", "export the model again"):
        return str(json.loads(path.read_text())["parent"])


def saved_digest(folder: str | Path) -> str:
    """Hash the weights of a saved model as they are loaded, in float32: the `digest` of that model.

    Raises
    ------
    MissingInputError, InputError
        As for `open_spec`, or if the weights are damaged.
    """
    open_spec(folder)
    path = Path(folder) / WEIGHTS_FILE

    def as_loaded(array: NDArray[Any]) -> NDArray[Any]:
        return array.astype(np.float32) if array.dtype == np.float16 else array

    with reading(path, "damaged", "export the model again"), safe_open(path, "numpy") as file:
        return tensors_digest((name, as_loaded(file.get_tensor(name))) for name in sorted(file.keys()))


def tensors_digest(tensors: Iterable[tuple[str, NDArray[Any]]]) -> str:
    """Hash the names, dtypes (torch's names), shapes and bytes of arrays, in the given order, to 16 hex digits."""
    sha256 = hashlib.sha256()
    for name, array in tensors:
        sha256.update(f"{name}:torch.{array.dtype}:{array.shape}".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()[:16]


def read_spec(path: Path) -> ModelSpec:
    """Read a `spec.json`.

    Raises
    ------
    InputError
        If this version does not understand it.
    """
    with reading(path, "not a model spec of this version", "export the model again"):
        content = json.loads(path.read_text(encoding="utf-8"))
        content.setdefault("net", {}).setdefault("convolutions", CONVOLUTIONS_BEFORE)
        return validated(ModelSpec, content, f"{path}: not a model spec of this version")


def spec_to_dict(spec: ModelSpec) -> dict[str, Any]:
    """Return a JSON-ready form of a model's spec."""
    return asdict(spec) | {"labels": spec.labels.to_dict()}
