"""The files of a saved model, as far as they can be read without torch."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sgcldff.errors import InputError, MissingInputError
from sgcldff.labels import LabelSpace
from sgcldff.specs import Mixing, ModelSpec, NetSpec, Pretrained, PriorSpec

SPEC_FILE = "spec.json"
WEIGHTS_FILE = "weights.safetensors"


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
    """Give a JSON-ready form of a model's spec."""
    return asdict(spec) | {"labels": spec.labels.to_dict()}


def spec_from_dict(data: dict[str, Any]) -> ModelSpec:
    """Read what `spec_to_dict` gave."""
    net = NetSpec(**dict(_enums(data["net"])))
    prior = PriorSpec(**(data["prior"] | {"names": tuple(data["prior"]["names"])}))
    return ModelSpec(**(data | {"net": net, "prior": prior, "labels": LabelSpace.from_dict(data["labels"])}))


def _enums(net: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    kinds = {"pretrained": Pretrained, "mixing": Mixing}
    return ((key, kinds[key](value) if key in kinds else value) for key, value in net.items())
