"""A differential as a laboratory reports it: absolute counts, and what lies outside its reference intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgcldff.core.labels import BLAST, ERYTHROBLAST, cannot_tell
from sgcldff.core.proportions import Range, exact_interval
from sgcldff.counting.alerts import MAY_BE_BLASTS, MONONUCLEAR
from sgcldff.counting.reference_intervals import (
    WHITE_CELLS,
    Position,
    ReferenceInterval,
    ReferenceRow,
    Unit,
    intervals_for,
)
from sgcldff.slides.patient import Patient

if TYPE_CHECKING:
    from sgcldff.counting.differential import ClassShare, Differential

NOT_COVERED = "the imprecision of the white count, which is taken as exact"


@dataclass(frozen=True)
class Specimen:
    """What the laboratory knows of the blood on a slide."""

    wbc: float | None = None
    """White count, 10^9/L."""
    intervals: tuple[ReferenceInterval, ...] = ()
    """Reference intervals that hold for the patient."""
    reference: str = ""
    """Name of the file that they come from."""
    nrbc_excluded: bool = False
    """Whether the white count leaves nucleated red cells out."""


def specimen_of(patient: Patient, file: str | Path | None, rows: Sequence[ReferenceRow]) -> Specimen | None:
    """Gather what is known of a patient's blood; age and sex only choose the reference intervals, and are not kept.

    Parameters
    ----------
    file, rows
        The file of reference intervals, and what it holds; None and nothing where there is none.

    Returns
    -------
    None where nothing is known.
    """
    if patient.wbc is None and file is None:
        return None
    name = "" if file is None else Path(file).name
    return Specimen(patient.wbc, intervals_for(patient, rows), name, bool(patient.nrbc_excluded))


@dataclass(frozen=True)
class WhiteCount:
    """The white count, less the nucleated red cells where the analyser counts them as white cells; 10^9/L."""

    given: float
    per_100: float | None
    """Nucleated red cells per 100 white cells; None where the model does not know them, or no white cell was found."""
    corrected: Range | None
    """given x 100 / (100 + per_100), or what was given if it leaves them out; None where neither is known."""
    nrbc_excluded: bool = False
    """Whether what was given leaves nucleated red cells out."""
    not_covered: str = NOT_COVERED


@dataclass(frozen=True)
class AbsoluteCount:
    """Cells of one type, 10^9/L."""

    label: str
    value: float
    low: float
    high: float
    lowest: float
    """Lower end if no unidentified cell is of this type."""
    highest: float
    """Upper end if all are."""
    adjusted: Range | None
    """Allows for the model's errors; None where its confusion is not known."""


@dataclass(frozen=True)
class ReferenceMark:
    """A type's value beside the laboratory's reference interval."""

    label: str
    unit: Unit
    limits: tuple[float, float] | None
    found: Range | None
    position: Position
    """`CANNOT_TELL` unless the whole interval of the value lies on one side of both limits."""
    reason: str = ""
    """Why a value cannot be judged at all."""
    caution: str = ""
    """What else the cells may be."""

    @property
    def outside(self) -> bool:
        """The value lies outside, with its whole interval."""
        return self.position in (Position.BELOW, Position.ABOVE)

    @property
    def reads(self) -> str:
        """The position in words, with the reason if there is one."""
        return f"{self.position}: {self.reason}" if self.reason else str(self.position)

    def __str__(self) -> str:
        if self.found is None or self.limits is None:
            return f"{self.label} ({self.unit}): {self.reads}"
        low, high = self.limits
        value = f"{self.label} {self.found.value:.3g} {self.unit.shown}"
        return f"{value}, {self.position} the reference {low:g} – {high:g}" + (
            f": {self.caution}" if self.caution else ""
        )


class LaboratoryFigures:
    """Absolute counts and marks of a differential whose specimen is known; none where it is not."""

    def __init__(self, found: "Differential") -> None:
        self._found, self._specimen = found, found.specimen or Specimen()

    @cached_property
    def _red(self) -> int:
        """Nucleated red cells that the white count holds."""
        return 0 if self._specimen.nrbc_excluded else self._found.counts.get(ERYTHROBLAST, 0)

    @cached_property
    def white_count(self) -> WhiteCount | None:
        """The white count; None where it was not given.

        Analysers that do not distinguish nucleated red cells count all nucleated cells, of which the white ones are a
        share w / (w + r) with an exact interval.
        """
        wbc, white = self._specimen.wbc, self._found.counted
        if wbc is None:
            return None
        known = white > 0 and ERYTHROBLAST not in cannot_tell(self._found.classes)
        per_100 = 100 * self._found.counts.get(ERYTHROBLAST, 0) / white if known else None
        if self._specimen.nrbc_excluded:
            return WhiteCount(wbc, per_100, Range(wbc, wbc, wbc), nrbc_excluded=True)
        if per_100 is None:
            return WhiteCount(wbc, None, None)
        low, high = self._ends(white, white + self._red)
        share = white / (white + self._red)
        return WhiteCount(wbc, per_100, Range(wbc * share, wbc * low, wbc * high))

    @cached_property
    def absolute(self) -> tuple[AbsoluteCount, ...]:
        """Absolute counts of all types, then of broader ones; none without a white count or white cells."""
        if self._specimen.wbc is None or not self._found.counted:
            return ()
        return tuple(map(partial(self._absolute, wbc=self._specimen.wbc), (*self._found.shares, *self._found.groups)))

    @cached_property
    def marks(self) -> tuple[ReferenceMark, ...]:
        """Every reference interval with the value found, in the order of the laboratory's file."""
        return tuple(map(self._mark, self._specimen.intervals))

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of `differential.json` that hold these figures."""
        white, marks = self.white_count, [asdict(mark) | {"reads": mark.reads} for mark in self.marks]
        return {
            "white_count": white and asdict(white),
            "absolute": [asdict(one) for one in self.absolute],
            "reference": marks,
        }

    def _ends(self, count: int, total: int) -> tuple[float, float]:
        return exact_interval(count, total, self._found.interval.level, self._found.interval.clusters)

    def _absolute(self, share: "ClassShare", wbc: float) -> AbsoluteCount:
        """Count a type in a litre: its share of all nucleated cells, so that the interval holds the chance in both."""
        total, unidentified = self._found.counted + self._red, self._found.rejected
        low, high = self._ends(share.count, total)
        lowest, _ = self._ends(share.count, total + unidentified)
        _, highest = self._ends(share.count + unidentified, total + unidentified)
        one, white = share.adjusted, self.white_count and self.white_count.corrected
        litre = white or Range(wbc, wbc, wbc)
        adjusted = Range(one.share * litre.value, one.low * litre.low, one.high * litre.high) if one else None
        value = wbc * share.count / total
        return AbsoluteCount(share.label, value, wbc * low, wbc * high, wbc * lowest, wbc * highest, adjusted)

    def _mark(self, interval: ReferenceInterval) -> ReferenceMark:
        found, reason = self._value(interval)
        if found is None or interval.limits is None:
            reason = interval.reason or reason
            return ReferenceMark(interval.label, interval.unit, interval.limits, found, Position.CANNOT_TELL, reason)
        position = Position.of(found.low, found.high, interval.limits)
        unsure = interval.label in MONONUCLEAR and position is Position.ABOVE and BLAST in self._found.cannot_tell
        caution = MAY_BE_BLASTS if unsure else ""
        return ReferenceMark(interval.label, interval.unit, interval.limits, found, position, caution=caution)

    def _value(self, interval: ReferenceInterval) -> tuple[Range | None, str]:
        """Return a type's value in the unit of an interval, or why there is none.

        Its ends are those that allow for most: for the model's errors where its confusion is known, otherwise for what
        unidentified cells may be.
        """
        if interval.label == WHITE_CELLS:
            white = self.white_count
            if white is None:
                return None, "no white count was given"
            return white.corrected or Range(white.given, white.given, white.given), ""
        if interval.unit is Unit.ABSOLUTE:
            return self._absolute_value(interval.label)
        for share in (*self._found.shares, *self._found.groups):
            if share.label == interval.label:
                one = share.adjusted
                ends = (one.share, one.low, one.high) if one else (share.share, share.lowest, share.highest)
                return Range(*(100 * end for end in ends)), ""
        for beside in self._found.beside:
            if beside.label == interval.label:
                if beside.per_100 is None or beside.low is None or beside.high is None:
                    return None, "no white cell was counted"
                return Range(beside.per_100, beside.low, beside.high), ""
        return None, "not a type of this model"

    def _absolute_value(self, label: str) -> tuple[Range | None, str]:
        if self._specimen.wbc is None:
            return None, "no white count was given"
        for count in self.absolute:
            if count.label == label:
                return count.adjusted or Range(count.value, count.lowest, count.highest), ""
        known = label in (share.label for share in (*self._found.shares, *self._found.groups))
        return None, "no white cell was counted" if known else "not a type of this model"


def outside(marks: Sequence[ReferenceMark]) -> list[str]:
    """Describe what lies outside the reference intervals."""
    return [str(mark) for mark in marks if mark.outside]
