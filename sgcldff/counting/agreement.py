"""Comparison of a differential with a manual count of the same smear."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from scipy.special import ndtr, ndtri

from sgcldff.core.errors import InputError, LabelError, StoreError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.labels import COUNTED_NAMES, NOT_WHITE, canonical, resolve_label
from sgcldff.core.records import UNIDENTIFIED, Lineage
from sgcldff.core.tables import LARGEST, TableRow, read_rows, whole_number
from sgcldff.core.wording import PURPOSE
from sgcldff.counting.differential import ClassShare, Differential, from_counts

Counts = Mapping[str, int]
"""Cells of a slide by type."""


FEWEST_CELLS = 100
"""Cells in both counts below which the comparison says that they are too few."""
NO_TYPES = ("slide_id", "specimen", "reader", "age", "sex")
"""Columns of a table of counts that are no types."""
DIFFERENCE = (0.5, 0.6)
"""Shares whose difference, ten percentage points where they are hardest to tell apart, the power is stated for."""


@dataclass(frozen=True)
class Agreement:
    """How far one type's share agrees with that of a manual count."""

    label: str
    manual: ClassShare
    """With Rümke's limits: the exact binomial interval of the manual share."""
    found: ClassShare | None
    """None where the model does not have the type."""
    cells: tuple[int, int]
    """White cells of the manual count, and those that the model classified."""
    p_value: float | None
    """Of Fisher's exact test, two-sided, for this type alone; None where the model does not have the type."""
    adjusted: float | None
    """`p_value` for all types together (Holm)."""
    differs: bool
    """`adjusted` is below 1 - confidence: more than chance in the two counts explains."""

    @property
    def within_limits(self) -> bool:
        """The share found lies within Rümke's limits of the manual one."""
        return self.found is not None and self.manual.low <= self.found.share <= self.manual.high

    @property
    def reads(self) -> str:
        """The result of the comparison in words."""
        if self.found is None:
            return "not a type of this model"
        if min(self.cells) == 0:
            return "cannot tell: nothing was counted"
        if self.differs:
            return "differs"
        return "agrees" if self.within_limits else "outside the limits, within chance"

    @property
    def power(self) -> float:
        """Probability that these many cells show a difference of ten percentage points, for one type alone.

        By the arc sine of the root (J. Cohen, Statistical Power Analysis, 1988), at a significance of 5 %.
        """
        one, other = self.cells
        low, high = (2 * math.asin(math.sqrt(share)) for share in DIFFERENCE)
        return float(ndtr((high - low) * math.sqrt(one * other / max(1, one + other)) - ndtri(0.975)))


def compare(found: Differential, manual: Counts) -> tuple[Agreement, ...]:
    """Compare every type's share with that of a manual count.

    Rümke's limits are the exact binomial interval of the manual share at `found.confidence`, as his table gives them
    for 100, 200, 500 and 1,000 cells (C. L. Rümke, Blood Cells 11, 1985, 137-140; CLSI H20-A2, reference leukocyte
    differential). They treat the other count as if it were exact. Fisher's exact test of the 2 x 2 table (type or not,
    manual or found) counts the chance in both; it is exact for the rare types too, where few cells are expected and
    the chi-square approximation fails, and it errs on the side of agreement. It takes the two counts as independent
    draws from the smear.

    With several types one differs now and then by chance alone. `adjusted` keeps the chance of any false alarm on a
    slide below 1 - confidence (S. Holm, Scand. J. Statist. 6, 1979; never less powerful than Bonferroni); the limits
    are for each type alone.

    Types that the differential does not have come first. They are part of the manual count's denominator, unless they
    are no white cells: nucleated red cells and smudge cells are counted beside, per white cell.
    """
    own = [share.label for share in found.shares]
    foreign = [label for label, count in manual.items() if count and label not in (*found.classes, UNIDENTIFIED)]
    beside = [label for label in foreign if label in NOT_WHITE]
    white = {label: count for label, count in manual.items() if label not in (*NOT_WHITE, UNIDENTIFIED)}
    by_hand = from_counts(white, {*white, *own}, found.confidence)
    cells = (by_hand.counted, found.counted)
    per_white = {label: manual[label] / max(by_hand.counted, 1) for label in beside}
    lacking = [
        ClassShare(label, manual[label], per_white[label], 0.0, 1.0, 0.0, 1.0) if label in beside else by_hand[label]
        for label in foreign
    ]
    pairs = [(by_hand[share.label], share) for share in found.shares]
    p_values = [_p_value(one, by_hand.counted, other, found.counted) for one, other in pairs]
    return (
        *(Agreement(share.label, share, None, cells, None, None, False) for share in lacking),
        *(
            Agreement(ours.label, theirs, ours, cells, p_value, adjusted, adjusted < 1 - found.confidence)
            for (theirs, ours), p_value, adjusted in zip(pairs, p_values, holm(p_values), strict=True)
        ),
    )


def _p_value(one: ClassShare, total: int, other: ClassShare, other_total: int) -> float:
    from scipy.stats import fisher_exact  # takes longer to load than to check all that a command is given

    table = [[one.count, total - one.count], [other.count, other_total - other.count]]
    return float(fisher_exact(table).pvalue)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values for their number by Holm's step-down procedure; the order is kept."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for passed, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - passed) * p_values[at]))
        adjusted[at] = largest
    return tuple(adjusted)


def read_manual(path: str | Path, classes: Iterable[str] | None = None) -> dict[str, Counts]:
    """Read manual counts: slide -> type -> cells counted.

    The CSV (or Parquet) table has either the columns slide_id, label and count, or slide_id and one column per type; an
    empty cell of the latter is 0. Synonyms are understood ("Neut", "bands"), and what falls into one type is summed.

    Parameters
    ----------
    classes
        Types of the model; others that people count ("blast", "smudge cell") are kept under their own names. None takes
        every name.

    Raises
    ------
    LabelError
        If a type is unknown.
    InputError
        If the table cannot be read, or a slide has no name, a count is no whole number of at least 0, or a slide or one
        of its types comes twice; the message names the table, the row and the remedy.
    """
    path, known = Path(path), None if classes is None else tuple(classes)
    rows: dict[str, list[tuple[int, TableRow]]] = defaultdict(list)
    for number, row in enumerate(read_rows(path, ["slide_id"]), 1):
        rows[row["slide_id"]].append((number, row))
    return {slide: counts_in(path, own, known) for slide, own in rows.items()}


def counts_in(path: Path, rows: Iterable[tuple[int, TableRow]], classes: Iterable[str] | None) -> Counts:
    """Add up the numbered rows of one count, in either form of `read_manual`, which describes errors and classes."""
    known = None if classes is None else {*classes, UNIDENTIFIED}
    counts, seen = Counter[str](), set[str]()
    for entry in (entry for number, row in rows for entry in _entries(path, number, row)):
        if entry.name in seen:
            raise InputError(f"{entry.place}: {entry.name!r} was counted in an earlier row too: keep one of them")
        seen.add(entry.name)
        counts[entry.type_among(known)] += entry.count
    return dict(counts)


@dataclass(frozen=True)
class _Entry:
    """One count, and where it stands."""

    place: str
    name: str
    """As it was written, but for case."""
    count: int

    def type_among(self, known: set[str] | None) -> str:
        label = canonical(self.name) if known is None else resolve_label(self.name, known)
        if known is not None and label not in {*known, *COUNTED_NAMES}:
            names = ", ".join(sorted({*known, *COUNTED_NAMES}))
            raise LabelError(
                f"{self.place}: type {self.name!r} is in no class; known are {names}: correct or remove it"
            )
        return label


def _entries(path: Path, number: int, row: TableRow) -> list[_Entry]:
    slide = row["slide_id"]
    place = f"{path}, row {number} (slide {slide!r})"
    if not slide:
        raise InputError(f"{path}, row {number}: slide_id is empty: name the slide")
    if {"label", "count"} <= row.keys():
        return [_Entry(place, row["label"].lower(), whole_number(place, row["label"], row["count"], (0, LARGEST)))]
    types = {name: text for name, text in row.items() if name not in NO_TYPES}
    if not types:
        raise InputError(f"{path}: has neither the columns label and count nor one column per type: add them")
    return [_Entry(place, name, whole_number(place, name, text or "0", (0, LARGEST))) for name, text in types.items()]


def write_agreements(
    path: str | Path, agreements: Sequence[Agreement], slide_id: str, lineage: Lineage, confidence: float = 0.95
) -> Path:
    """Write a comparison as JSON, with where it comes from; the file appears whole or not at all."""
    lines = [asdict(one) | {"within_limits": one.within_limits, "reads": one.reads} for one in agreements]
    content = {
        "slide_id": slide_id,
        "confidence": confidence,
        "types": lines,
        "power_for_10_points": max((one.power for one in agreements), default=0.0),
        "purpose": PURPOSE,
        "lineage": asdict(lineage),
        "version": 2,
    }
    return write_json(path, content)


def read_agreements(path: str | Path) -> tuple[Agreement, ...]:
    """Read what `write_agreements` wrote.

    Raises
    ------
    InputError
        If the file is missing, damaged or not a comparison.
    """
    remedy = "remove it and run again"
    try:
        lines = read_json(path, remedy)["types"]
        return TypeAdapter(tuple[Agreement, ...]).validate_python(lines)
    except (StoreError, KeyError, TypeError, ValidationError) as error:
        raise InputError(f"{path}: not a comparison with a manual count ({error}): {remedy}") from error
