"""The files of a saved model, as far as they can be read without torch."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.settings import Mixing, ModelSpec, NetSpec, Pretrained, PriorSpec

SPEC_FILE = "spec.json"
WEIGHTS_FILE = "weights.safetensors"
"""Weights in float32, or in float16 where the model was saved in half precision."""
TRAINED_ON = "trained_on.json"
"""Beside a model, where it is known: the digests of the images that it learned from. It travels with the version."""


def open_spec(folder: str | Path) -> ModelSpec:
    """Read the spec of a model whose files are all there.

    Raises
    ------
    MissingInputError
        If a file is missing.
    InputError
        If the spec is none that this version understands.
    """
    for name in (SPEC_FILE, WEIGHTS_FILE):
        if not (Path(folder) / name).is_file():
            raise MissingInputError(f"{folder}: holds no {name}; name a folder that training or the registry wrote")
    return read_spec(Path(folder) / SPEC_FILE)


def saved_digest(folder: str | Path) -> str:
    """Hash the weights of a saved model as they are loaded, in float32: the `digest` of that model.

    Raises
    ------
    MissingInputError, InputError
        As `open_spec`, or if the weights are damaged.
    """
    open_spec(folder)
    path = Path(folder) / WEIGHTS_FILE
    try:
        with safe_open(path, "numpy") as file:
            return tensors_digest((name, _widened(file.get_tensor(name))) for name in sorted(file.keys()))
    except SafetensorError as error:
        raise InputError(f"{path}: damaged ({error}); export the model again") from error


def _widened(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def tensors_digest(tensors: Iterable[tuple[str, NDArray[Any]]]) -> str:
    """Hash names, dtypes (as torch names them), shapes and bytes of arrays, in the order given, to 16 hex digits."""
    total = hashlib.sha256()
    for name, array in tensors:
        total.update(f"{name}:torch.{array.dtype}:{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:16]


def read_spec(path: Path) -> ModelSpec:
    """Read a `spec.json`.

    Raises
    ------
    InputError
        If it is no spec that this version understands.
    """
    try:
        return spec_from_dict(json.loads(path.read_text()))
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a model spec of this version ({error}); export the model again") from error


def spec_to_dict(spec: ModelSpec) -> dict[str, Any]:
    """Return a JSON-ready form of a model's spec."""
    return asdict(spec) | {"labels": spec.labels.to_dict()}


def spec_from_dict(data: dict[str, Any]) -> ModelSpec:
    """Read what `spec_to_dict` gave."""
    net = NetSpec(**dict(_enums(data["net"])))
    prior = PriorSpec(**(data["prior"] | {"names": tuple(data["prior"]["names"])}))
    return ModelSpec(**(data | {"net": net, "prior": prior, "labels": LabelSpace.from_dict(data["labels"])}))


def _enums(net: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    kinds = {"pretrained": Pretrained, "mixing": Mixing}
    return ((key, kinds[key](value) if key in kinds else value) for key, value in net.items())
