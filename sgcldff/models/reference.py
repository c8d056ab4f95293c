"""A summary of a model's training images, stored beside its weights, for the in-distribution limit and drift.

`reference.safetensors`, layout `reference/1`, contains arrays, and JSON in its metadata. It contains no code and no
names of files, patients or slides: groups are numbers, images are digests.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.records import Sample
from sgcldff.core.settings import digest, require
from sgcldff.models.observations import Observations
from sgcldff.models.out_of_distribution import Typicality
from sgcldff.slides.images import sha256_of

REFERENCE_FILE = "reference.safetensors"
"""Stored beside a model, and registered with it."""
REFERENCE_LAYOUT = "reference/1"
METADATA_KEY = "reference"
"""The only metadata key, since the order of several would vary between files."""
TEXT_FIELDS = ("labels", "types")
"""Fields of `Observations` that are not arrays."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A summary of a model's training images."""

    model: str
    """Digest of the weights."""
    known: Mapping[str, str]
    """Images in the catalog when the model was trained, of all splits: sha256 -> digest of their annotation."""
    observations: Observations
    """Features of a random sample of the training and validation images."""
    typicality: Typicality | None
    """None if too few cells were labelled, or none was held out."""

    def unknown(self, samples: Iterable[Sample]) -> tuple[Sample, ...]:
        """Return the images that were not in the catalog, or had another label, mask or boxes."""
        return tuple(sample for sample in samples if self.known.get(sample.sha256) != annotation_digest(sample))

    def save(self, folder: str | Path) -> Path:
        """Write the file atomically to a model's folder."""
        path = Path(folder) / REFERENCE_FILE
        fields = {name: getattr(self.observations, name) for name in self.observations.__dataclass_fields__}
        arrays = {f"observations.{name}": part for name, part in fields.items() if name not in TEXT_FIELDS}
        if self.typicality is not None:
            arrays |= {f"typicality.{name}": part for name, part in self.typicality.arrays().items()}
        metadata = {"layout": REFERENCE_LAYOUT, "model": self.model, "known": dict(sorted(self.known.items()))}
        metadata |= {name: list(fields[name]) for name in TEXT_FIELDS}
        with atomic_write(path) as partial:
            contiguous = {name: np.ascontiguousarray(part) for name, part in arrays.items()}
            save_file(contiguous, partial, {METADATA_KEY: json.dumps(metadata)})
        return path

    @classmethod
    def open(cls, folder: str | Path) -> "Reference":
        """Read a model's reference.

        Raises
        ------
        MissingInputError
            If the model has none: it was trained by an early version, or elsewhere.
        InputError
            If the file is damaged or has another layout.
        """
        path = Path(folder) / REFERENCE_FILE
        if not path.is_file():
            raise MissingInputError(f"{folder}: contains no {REFERENCE_FILE}; train the model again with this version")
        parts: dict[str, dict[str, Any]] = {"observations": {}}
        with reading(path, "damaged", "train or register the model again"), safe_open(path, "numpy") as file:
            metadata: dict[str, Any] = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            layout = metadata.get("layout")
            wanted = f"{path}: layout {layout!r} is not {REFERENCE_LAYOUT!r}; train the model again"
            require(layout == REFERENCE_LAYOUT, wanted)
            for name in file.keys():  # noqa: SIM118  # an open file is no mapping
                owner, _, field = name.partition(".")
                parts.setdefault(owner, {})[field] = file.get_tensor(name)
                if not np.isfinite(parts[owner][field]).all():
                    raise ValueError(f"{name} is not finite")
            observations = Observations(**parts["observations"] | {name: tuple(metadata[name]) for name in TEXT_FIELDS})
            typicality = Typicality(**parts["typicality"]) if "typicality" in parts else None
            return cls(metadata["model"], metadata["known"], observations, typicality)


def annotation_digest(sample: Sample) -> str:
    """Hash the annotation of an image: label, mask and boxes."""
    code = sample.mask_code and asdict(sample.mask_code)
    return digest((sample.label, sample.mask_sha256, code, sample.boxes))


def reference_digest(folder: str | Path) -> str:
    """Hash a model's reference to 16 hexadecimal digits; empty if it has none."""
    path = Path(folder) / REFERENCE_FILE
    return sha256_of(path)[:16] if path.is_file() else ""


def read_typicality(folder: str | Path, model: str) -> Typicality | None:
    """Read a model's typicality score; None if it has none.

    Raises
    ------
    InputError
        If the file is damaged, or belongs to weights with another digest than `model`.
    """
    if not (Path(folder) / REFERENCE_FILE).is_file():
        return None
    reference = Reference.open(folder)
    require(
        reference.model == model,
        f"{Path(folder) / REFERENCE_FILE}: belongs to the weights {reference.model}, not {model}; remove it",
    )
    return reference.typicality


def require_typicality(folder: str | Path, limit: float) -> None:
    """Check that a model can apply an in-distribution limit.

    Raises
    ------
    InputError
        If the model has no typicality score, or one that is coarser than the limit.
    """
    if limit == 0:
        return
    remedy = "set infer.min_typicality to 0, or train the model again"
    typicality = Reference.open(folder).typicality if reference_digest(folder) else None
    if typicality is None:
        raise InputError(
            f"{folder}: min_typicality is {limit}, but this model has no typicality score"
            f" (no {REFERENCE_FILE}, or no validation cells in it); {remedy}"
        )
    require(
        limit > typicality.resolution,
        f"{folder}: min_typicality is {limit}, but with {len(typicality.held_out)} validation cells this model resolves"
        f" nothing below {typicality.resolution:.4f}; set more, or {remedy} with more validation images",
    )
