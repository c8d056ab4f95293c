"""How the share of each type agrees with that of the readers, and how they agree with each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgcldff.core.proportions import exact_interval
from sgcldff.counting.agreement import Counts
from sgcldff.counting.method_comparison import Differences, FittedLine, deming, differences, passing_bablok
from sgcldff.counting.reference_counts import cells_of, share_of, white_cells
from sgcldff.results.validation.study import Study


@dataclass(frozen=True)
class Proportion:
    """A count of specimens out of others, with the ends of its exact interval; share and ends 0 to 1."""

    count: int
    total: int
    share: float | None
    """None where there is no specimen, as then nothing is known."""
    low: float
    high: float

    @classmethod
    def of(cls, hits: Sequence[bool], level: float) -> "Proportion":
        """Count what holds."""
        count, total = sum(map(bool, hits)), len(hits)
        return cls(count, total, count / total if total else None, *exact_interval(count, total, level))


@dataclass(frozen=True)
class TypeComparison:
    """One type, in percent of the white cells."""

    label: str
    reference: tuple[float, ...]
    """Share of both readers' cells together, by specimen."""
    found: tuple[float, ...]
    """Share that the model found."""
    differences: Differences
    """Model less reference."""
    by_chance: float
    """Standard deviation of the differences if nothing but the choice of cells made them."""
    adjusted: Differences | None
    """The same for the share adjusted for the model's errors; None where it is not known of all specimens."""
    deming: FittedLine | None
    passing_bablok: FittedLine | None
    within: Proportion
    """Specimens in which the model's share lies within Rümke's limits of the reference."""
    readers: Differences
    """Second reader less the first, in alphabetical order."""
    readers_within: Proportion
    """Specimens in which the second reader's share lies within Rümke's limits of the first one's."""


def compare_types(study: Study, level: float = 0.95) -> tuple[TypeComparison, ...]:
    """Compare all types that readers and model name."""
    return tuple(compared(study, label, level) for label in study.compared)


def compared(study: Study, label: str, level: float = 0.95) -> TypeComparison:
    """Compare one type."""
    references = [specimen.reference for specimen in study.specimens]
    shares = [specimen.found[label] for specimen in study.specimens]
    reference = np.array([100 * share_of(one.pooled, label) for one in references])
    found = np.array([100 * share.share for share in shares])
    first, second = (np.array([100 * share_of(one.counts[at], label) for one in references]) for at in range(2))
    cells = np.array([white_cells(one.pooled) for one in references], float)
    counted = np.array([specimen.found.counted for specimen in study.specimens], float)
    both = (reference * cells + found * counted) / (cells + counted)
    variance = both * (100 - both) * (1 / cells + 1 / counted)
    adjusted = [100 * specimen.adjusted[label] for specimen in study.specimens if label in specimen.adjusted]
    ratio = float((1 / counted).mean() / (1 / cells).mean())
    return TypeComparison(
        label,
        tuple(reference.tolist()),
        tuple(found.tolist()),
        differences(reference, found, level),
        float(np.sqrt(variance.mean())),
        differences(reference, np.array(adjusted), level) if len(adjusted) == len(shares) else None,
        deming(reference, found, ratio, level),
        passing_bablok(reference, found, level),
        Proportion.of(
            [_within(one.pooled, share.share, label, level) for one, share in zip(references, shares, strict=True)],
            level,
        ),
        differences(first, second, level),
        Proportion.of(
            [_within(one.counts[0], share_of(one.counts[1], label), label, level) for one in references], level
        ),
    )


def _within(counts: Counts, share: float, label: str, level: float) -> bool:
    """Return whether a share lies within Rümke's limits of a count: its exact interval."""
    low, high = exact_interval(cells_of(counts, label), white_cells(counts), level)
    return low <= share <= high
