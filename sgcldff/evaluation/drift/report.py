"""Distances of new images from a model's training images, and whether they exceed chance and a tolerance."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from sgcldff.core.arrays import Floats
from sgcldff.core.markdown import markdown_table
from sgcldff.core.settings import DriftSpec
from sgcldff.core.wording import counted
from sgcldff.evaluation.drift.distances import energy_coefficients, random_parts, share_distances
from sgcldff.models.observations import Observations

Distances = Callable[[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.float64]]
"""Compares two parts, each (R, N), of measurements (N, ...)."""


class Measurements(NamedTuple):
    """One property of the reference's and of the new images or cells."""

    old: NDArray[Any]
    """(N, ...)."""
    new: NDArray[Any]
    """(M, ...)."""
    groups: NDArray[np.int64]
    """Patient or slide of each old one; (N,)."""
    new_groups: NDArray[np.int64]
    """Of each new one; (M,)."""

    @property
    def patients(self) -> int:
        """Patients or slides of the side that has fewer."""
        return min(len(np.unique(self.groups)), len(np.unique(self.new_groups)))


@dataclass(frozen=True)
class DriftFigure:
    """One distance; all numbers in [0, 1]."""

    name: str
    value: float
    """Distance of the new images from the reference."""
    chance: float
    """Distance that random parts of the reference, as large as the new images, rarely have from its rest."""
    limit: float
    """Distance that is tolerated."""

    @property
    def exceeds(self) -> bool:
        """Whether the distance exceeds both chance and the limit."""
        return self.value > max(self.chance, self.limit)

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3f} (limit {max(self.chance, self.limit):.3f})"


@dataclass(frozen=True)
class DriftReport:
    """Distances of new images from a model's reference."""

    images: int
    """New images that were compared."""
    cells: int
    """Cells on them."""
    figures: tuple[DriftFigure, ...]
    """Empty if there are too few new images."""
    shares: Mapping[str, tuple[float, float]]
    """Label -> its proportion among the labelled images of the reference and among the new ones."""
    patients: int = 0
    """Patients or slides of the new images."""

    @property
    def exceeding(self) -> tuple[DriftFigure, ...]:
        """Figures that exceed chance and limit."""
        return tuple(figure for figure in self.figures if figure.exceeds)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "DriftReport":
        """Read what `to_dict` returned."""
        return TypeAdapter(cls).validate_python(data)

    def to_markdown(self) -> str:
        """Write tables of the figures and of the proportions of types."""
        if not self.figures:
            patients = counted(self.patients, "patient or slide", "patients or slides")
            few = f"{counted(self.images, 'new image')} of {patients}"
            return f"{few} are too few to distinguish drift from chance.\n"
        figures = [
            (one.name, f"{one.value:.3f}", f"{one.chance:.3f}", f"{one.limit:.3f}", "yes" if one.exceeds else "")
            for one in self.figures
        ]
        shares = [(label, f"{old:.1%}", f"{new:.1%}") for label, (old, new) in self.shares.items()]
        parts = [
            f"{self.images} new images with {self.cells} cells, compared with the champion's reference.",
            markdown_table(("drift of", "distance", "by chance", "limit", "exceeds"), figures),
            markdown_table(("label", "reference", "new"), shares),
        ]
        return "\n\n".join(parts) + "\n"


def measure_drift(reference: Observations, new: Observations, spec: DriftSpec) -> DriftReport:
    """Compare new images with those of a reference; large sets are sampled.

    A distance exceeds if it is larger than the spec's limit for it, and larger than the quantile `spec.chance` of the
    distances between random patients of the reference, as many as are new, and the other patients. Nothing is compared
    below `spec.min_groups` patients or slides on either side.
    """
    old, now = reference.sampled(spec.seed), new.sampled(spec.seed)
    old_labels, new_labels = np.array(old.labels, np.str_), np.array(now.labels, np.str_)
    labelled = old_labels != ""
    named = new_labels != ""
    labels = Measurements(old_labels[labelled], new_labels[named], old.groups[labelled], now.groups[named])
    embeddings = Measurements(old.embedding, now.embedding, old.groups[old.owners], now.groups[now.owners])
    properties: tuple[tuple[str, float, Distances, Measurements], ...] = (
        ("stain", spec.stain, energy_coefficients, _standardised(old.stain, now.stain, old, now)),
        ("prior coverage", spec.prior, energy_coefficients, _standardised(old.coverage, now.coverage, old, now)),
        ("embedding", spec.embedding, energy_coefficients, embeddings),
        ("class mix", spec.class_mix, share_distances, labels),
    )
    figures = tuple(
        DriftFigure(name, *_distance_and_chance(distances, measured, spec), limit)
        for name, limit, distances, measured in properties
        if min(len(measured.old), len(measured.new)) >= spec.min_images and measured.patients >= spec.min_groups
    )
    shares = {name: _share(name, labels) for name in np.unique(np.concatenate(labels[:2])).tolist()}
    return DriftReport(len(now), len(now.owners), figures, shares, len(np.unique(now.groups)))


def _distance_and_chance(distances: Distances, measured: Measurements, spec: DriftSpec) -> tuple[float, float]:
    """Return the distance of the new ones from the reference, and the one that is rarely exceeded by chance."""
    rng = np.random.default_rng(spec.seed)
    sizes = np.unique(measured.new_groups, return_counts=True)[1]
    parts = random_parts(measured.groups, sizes.tolist(), spec.resamples, rng)
    pooled = np.concatenate((measured.old, measured.new))
    is_old = np.arange(len(pooled)) < len(measured.old)
    chance = np.quantile(distances(measured.old, *parts), spec.chance)
    return float(distances(pooled, ~is_old[None], is_old[None])[0]), float(chance)


def _standardised(old: Floats, new: Floats, reference: Observations, now: Observations) -> Measurements:
    """Express measurements in standard deviations of the reference, where it varies."""
    mean, spread = old.mean(axis=0), old.std(axis=0)
    unit = np.where(spread > 1e-6, spread, 1)
    return Measurements((old - mean) / unit, (new - mean) / unit, reference.groups, now.groups)


def _share(name: str, labels: Measurements) -> tuple[float, float]:
    """Return a label's proportion among old and new labels; 0 if there are none."""
    old, new = (float((part == name).sum()) / max(1, len(part)) for part in (labels.old, labels.new))
    return old, new
