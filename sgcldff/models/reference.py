"""What a model's own images looked like, kept beside its weights: for the in-distribution limit, and to measure drift.

Layout `reference/1` of `reference.safetensors`: arrays, and JSON in the file's metadata. Nothing in it is code, and no
name of a file, patient or slide: groups are numbers, images are digests.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.records import Sample
from sgcldff.core.settings import digest, require
from sgcldff.models.observations import Observations
from sgcldff.models.out_of_distribution import Typicality
from sgcldff.slides.images import sha256_of

REFERENCE_FILE = "reference.safetensors"
"""Beside a model; it travels with the registered version."""
LAYOUT = "reference/1"
TOLD = "reference"
"""Key of the metadata; there is only one, since their order in the file is left to chance."""
TEXT = ("labels", "types")
"""Fields of `Observations` that are no arrays."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A model's own images."""

    model: str
    """Digest of the weights."""
    known: Mapping[str, str]
    """Images that were in the catalog when the model was trained, of all splits: sha256 -> digest of their truth."""
    observations: Observations
    """A random part of the images that the model learned from, validation included."""
    typicality: Typicality | None
    """None where too few cells were labelled, or none was held out."""

    def unknown(self, samples: Iterable[Sample]) -> tuple[Sample, ...]:
        """Choose the images that were not in the catalog, or had another label, mask or boxes."""
        return tuple(sample for sample in samples if self.known.get(sample.sha256) != truth_of(sample))

    def save(self, folder: str | Path) -> Path:
        """Write the file into a model's folder, whole or not at all."""
        path = Path(folder) / REFERENCE_FILE
        seen = {name: getattr(self.observations, name) for name in self.observations.__dataclass_fields__}
        arrays = {f"observations.{name}": part for name, part in seen.items() if name not in TEXT}
        if self.typicality is not None:
            arrays |= {f"typicality.{name}": part for name, part in self.typicality.arrays().items()}
        told = {"layout": LAYOUT, "model": self.model, "known": dict(sorted(self.known.items()))}
        told |= {name: list(seen[name]) for name in TEXT}
        with atomic_write(path) as partial:
            whole = {name: np.ascontiguousarray(part) for name, part in arrays.items()}
            save_file(whole, partial, {TOLD: json.dumps(told)})
        return path

    @classmethod
    def open(cls, folder: str | Path) -> "Reference":
        """Read what `save` wrote.

        Raises
        ------
        MissingInputError
            If the model has none: it was trained before there were any, or elsewhere.
        InputError
            If the file is damaged or of another layout.
        """
        told, parts = _read(Path(folder))
        observations = Observations(**parts["observations"] | {name: tuple(told[name]) for name in TEXT})
        typicality = Typicality(**parts["typicality"]) if "typicality" in parts else None
        return cls(told["model"], told["known"], observations, typicality)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read the JSON and the arrays, by the field to which they belong."""
    path = folder / REFERENCE_FILE
    if not path.is_file():
        raise MissingInputError(f"{folder}: holds no {REFERENCE_FILE}; train the model again with this version")
    parts: dict[str, dict[str, Any]] = {}
    try:
        with safe_open(path, "numpy") as file:
            told: dict[str, Any] = json.loads((file.metadata() or {}).get(TOLD, "{}"))
            found = told.get("layout")
            require(found == LAYOUT, f"{path}: layout {found!r} is not {LAYOUT!r}; train the model again")
            for name in file.keys():  # noqa: SIM118  # an open file is no mapping
                field, _, part = name.partition(".")
                parts.setdefault(field, {})[part] = file.get_tensor(name)
    except SafetensorError as error:
        raise InputError(f"{path}: damaged ({error}); train or register the model again") from error
    return told, parts


def truth_of(sample: Sample) -> str:
    """Hash what is known of an image: label, mask and boxes."""
    code = sample.mask_code and asdict(sample.mask_code)
    return digest((sample.label, sample.mask_sha256, code, sample.boxes))


def reference_digest(folder: str | Path) -> str:
    """Hash a model's reference to 16 hexadecimal digits; empty where it has none."""
    path = Path(folder) / REFERENCE_FILE
    return sha256_of(path)[:16] if path.is_file() else ""


def read_typicality(folder: str | Path, model: str) -> Typicality | None:
    """Read a model's score of typicality; None where it has none.

    Raises
    ------
    InputError
        If the file is damaged, or belongs to other weights than `model` (their digest).
    """
    if not (Path(folder) / REFERENCE_FILE).is_file():
        return None
    reference = Reference.open(folder)
    mine = reference.model == model
    require(mine, f"{Path(folder) / REFERENCE_FILE}: is of the weights {reference.model}, not {model}; remove it")
    return reference.typicality


def require_typicality(folder: str | Path, limit: float) -> None:
    """Refuse an in-distribution limit that a model cannot apply.

    Raises
    ------
    InputError
        If the model has no score of typicality, or one whose steps are coarser than the limit.
    """
    if limit == 0:
        return
    remedy = "set infer.min_typicality to 0, or train the model again"
    typicality = Reference.open(folder).typicality if reference_digest(folder) else None
    if typicality is None:
        raise InputError(
            f"{folder}: min_typicality is {limit}, but this model does not know what its training cells look like"
            f" (no {REFERENCE_FILE}, or no validation cells in it); {remedy}"
        )
    require(
        limit > typicality.finest,
        f"{folder}: min_typicality is {limit}, but with {len(typicality.held_out)} validation cells this model tells"
        f" nothing below {typicality.finest:.4f}; give more, or {remedy} with more validation images",
    )
