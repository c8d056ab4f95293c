"""How far new images are from those that a model learned from; whether by more than chance and a trifle."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.settings import DriftSpec
from sgcldff.evaluation.drift.distances import energy_coefficients, random_parts, share_distances
from sgcldff.models.observations import Floats, Observations

Distances = Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[np.float64]]
"""Compares parts (R, N) of measurements (N, ...)."""


class Measured(NamedTuple):
    """Something of the reference's and of the new images or cells."""

    old: NDArray[Any]
    """(N, ...)."""
    new: NDArray[Any]
    """(M, ...)."""
    groups: NDArray[np.int64]
    """Patient or slide of the reference's; (N,)."""


@dataclass(frozen=True)
class DriftFigure:
    """One distance; all numbers in [0, 1]."""

    name: str
    value: float
    """Distance of the new images from the reference."""
    chance: float
    """Distance that random parts of the reference, as large as the new images, seldom have from its rest."""
    limit: float
    """Distance that is a trifle."""

    @property
    def exceeds(self) -> bool:
        """Whether the distance is neither chance nor a trifle."""
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
    """Empty where the new images are too few."""
    shares: Mapping[str, tuple[float, float]]
    """Label -> its share among the labelled images of the reference, and of the new ones."""

    @property
    def exceeding(self) -> tuple[DriftFigure, ...]:
        """Those figures that are beyond chance and limit."""
        return tuple(figure for figure in self.figures if figure.exceeds)

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-ready form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "DriftReport":
        """Read what `to_dict` gave."""
        figures = tuple(DriftFigure(**figure) for figure in data["figures"])
        shares = {label: (pair[0], pair[1]) for label, pair in data["shares"].items()}
        return cls(data["images"], data["cells"], figures, shares)

    def to_markdown(self) -> str:
        """Write the figures and the shares of types as tables."""
        if not self.figures:
            return f"{self.images} new images are too few to tell drift from chance.\n"
        lines = [
            f"{self.images} new images with {self.cells} cells, against the champion's reference.\n",
            "| drift of | distance | by chance | limit | exceeds |\n| --- | --- | --- | --- | --- |",
            *(f"| {f.name} | {f.value:.3f} | {f.chance:.3f} | {f.limit:.3f} | {_mark(f)} |" for f in self.figures),
            "\n| label | reference | new |\n| --- | --- | --- |",
            *(f"| {label} | {old:.1%} | {new:.1%} |" for label, (old, new) in self.shares.items()),
        ]
        return "\n".join(lines) + "\n"


def _mark(figure: DriftFigure) -> str:
    return "yes" if figure.exceeds else ""


def compare(reference: Observations, new: Observations, spec: DriftSpec) -> DriftReport:
    """Compare new images with those of a reference; both are sampled where they are many.

    A distance exceeds if it is larger than the spec's limit for it, and larger than the quantile `spec.chance` of the
    distances that random parts of the reference, drawn by patient or slide, have from its rest.
    """
    old, now = reference.sampled(spec.seed), new.sampled(spec.seed)
    labels = _labelled(old, now)
    shares = {name: _share(name, labels) for name in np.unique(np.concatenate(labels[:2])).tolist()}
    kinds: tuple[tuple[str, float, Distances, Measured], ...] = (
        ("stain", spec.stain, energy_coefficients, _scaled(old.stain, now.stain, old.groups)),
        ("prior coverage", spec.prior, energy_coefficients, _scaled(old.coverage, now.coverage, old.groups)),
        ("embedding", spec.embedding, energy_coefficients, _cells(old, now)),
        ("class mix", spec.class_mix, share_distances, labels),
    )
    figures = tuple(
        DriftFigure(name, *_against_chance(distances, measured, spec), limit)
        for name, limit, distances, measured in kinds
        if min(len(measured.old), len(measured.new)) >= spec.min_images
    )
    return DriftReport(len(now), len(now.owners), figures, shares)


def _against_chance(distances: Distances, measured: Measured, spec: DriftSpec) -> tuple[float, float]:
    """Give the distance of the new from the reference, and the one that parts of the reference seldom have."""
    rng = np.random.default_rng(spec.seed)
    parts = random_parts(measured.groups, len(measured.new), spec.resamples, rng)
    together = np.concatenate((measured.old, measured.new))
    is_old = np.arange(len(together)) < len(measured.old)
    chance = np.quantile(distances(measured.old, parts), spec.chance)
    return float(distances(together, is_old[None])[0]), float(chance)


def _scaled(old: Floats, new: Floats, groups: NDArray[np.int64]) -> Measured:
    """Express measurements in standard deviations of the reference, where it varies."""
    mean, spread = old.mean(axis=0), old.std(axis=0)
    unit = np.where(spread > 1e-6, spread, 1)
    return Measured((old - mean) / unit, (new - mean) / unit, groups)


def _cells(old: Observations, new: Observations) -> Measured:
    return Measured(old.embedding, new.embedding, old.groups[old.owners])


def _labelled(old: Observations, new: Observations) -> Measured:
    before, now = np.array(old.labels, np.str_), np.array(new.labels, np.str_)
    return Measured(before[before != ""], now[now != ""], old.groups[before != ""])


def _share(name: str, labels: Measured) -> tuple[float, float]:
    """Give a label's share in both; 0 where nothing is labelled."""
    old, new = (float((part == name).sum()) / max(1, len(part)) for part in (labels.old, labels.new))
    return old, new
