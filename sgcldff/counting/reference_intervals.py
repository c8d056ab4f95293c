"""A laboratory's reference intervals, and where a value lies in them."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from sgcldff.core.boundary import reading
from sgcldff.core.labels import COUNTED_NAMES, canonical
from sgcldff.core.settings import require
from sgcldff.core.validation import Spec, validated
from sgcldff.slides.patient import OLDEST, Patient, Sex

WHITE_CELLS = "white cells"
"""Type of the row that holds for the white count itself."""
REMEDY = "write [[interval]] tables with type, unit, low and high"


class Unit(StrEnum):
    """Unit of a reference interval."""

    PERCENT = "%"
    """Of the white cells; cells that are none, such as nucleated red cells, per 100 white cells."""
    ABSOLUTE = "10^9/L"

    @property
    def shown(self) -> str:
        """As a reader is used to it, behind a value."""
        return self.replace("10^9", "× 10⁹")


class Position(StrEnum):
    """Where the whole interval of a value lies."""

    BELOW = "below"
    WITHIN = "within"
    ABOVE = "above"
    CANNOT_TELL = "cannot tell"

    @classmethod
    def of(cls, low: float, high: float, limits: tuple[float, float]) -> "Position":
        """Place the interval of a value, from `low` to `high`: it has to lie on one side of both limits."""
        if high < limits[0]:
            return cls.BELOW
        if low > limits[1]:
            return cls.ABOVE
        return cls.WITHIN if limits[0] <= low and high <= limits[1] else cls.CANNOT_TELL


@dataclass(frozen=True)
class ReferenceRow(Spec):
    """One `[[interval]]` of the file."""

    type: str
    unit: Unit
    low: Annotated[float, Interval(ge=0, le=1e6)]
    high: Annotated[float, Interval(ge=0, le=1e6)]
    age: tuple[float, float] | None = None
    """Years: from the first, and below the second; None holds for all."""
    sex: Sex | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.type.strip().lower()
        object.__setattr__(self, "type", WHITE_CELLS if name in ("wbc", "white cell", WHITE_CELLS) else canonical(name))
        known = ", ".join(sorted({WHITE_CELLS, *COUNTED_NAMES}))
        require(self.type in (WHITE_CELLS, *COUNTED_NAMES), f"type {self.type!r} is unknown: name one of {known}")
        require(self.low < self.high, f"low {self.low:g} is not below high {self.high:g}: correct one of them")
        if self.unit is Unit.PERCENT:
            require(self.type != WHITE_CELLS, f"{WHITE_CELLS} are no share: give them in {Unit.ABSOLUTE}")
            require(self.high <= 100, f"high is {self.high:g} %: give at most 100")
        if self.age:
            ordered = 0 <= self.age[0] < self.age[1] <= OLDEST
            require(ordered, f"age is {list(self.age)}: give two ages in order, years from 0 to {OLDEST:g}")

    def holds_for(self, patient: Patient) -> bool:
        """Return whether the row holds; not if it asks for what is not known."""
        old_enough = self.age is None or (patient.age is not None and self.age[0] <= patient.age < self.age[1])
        return old_enough and self.sex in (None, patient.sex)

    def overlaps(self, other: "ReferenceRow") -> bool:
        """Return whether both rows can hold for one patient."""
        (start, end), (first, last) = self.age or (0, OLDEST), other.age or (0, OLDEST)
        sexes = None in (self.sex, other.sex) or self.sex == other.sex
        return (self.type, self.unit) == (other.type, other.unit) and sexes and start < last and first < end


@dataclass(frozen=True)
class ReferenceInterval:
    """What holds for one patient, of one type in one unit."""

    label: str
    unit: Unit
    limits: tuple[float, float] | None
    """None where no row holds."""
    reason: str = ""
    """Why none does."""


def read_reference(path: str | Path) -> tuple[ReferenceRow, ...]:
    """Read a laboratory's reference intervals.

    The TOML file has one `[[interval]]` for each interval: `type`, `unit` ("%" or "10^9/L"), `low` and `high`, and
    where it does not hold for everybody `age = [18, 65]` (years: from, and below) and `sex`.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is no such file, a row is invalid, or two rows hold for the same patients; the message names the rows,
        counted from 1.
    """
    path = Path(path)
    with reading(path, "not a file of reference intervals", REMEDY):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    stated = content.pop("interval", None)
    require(not content, f"{path}: unknown {', '.join(content)}: {REMEDY}")
    require(isinstance(stated, list) and bool(stated), f"{path}: holds no interval: {REMEDY}")
    rows = tuple(validated(ReferenceRow, row, f"{path}, interval {at}") for at, row in enumerate(stated, 1))
    for (at, one), (later, other) in combinations(enumerate(rows, 1), 2):
        require(
            not one.overlaps(other),
            f"{path}, intervals {at} and {later}: both hold for some patients ({one.type}, {one.unit}, {one.low:g} to"
            f" {one.high:g} and {other.low:g} to {other.high:g}): give them ages or sexes that do not overlap, or"
            " remove one",
        )
    return rows


def intervals_for(patient: Patient, rows: Sequence[ReferenceRow]) -> tuple[ReferenceInterval, ...]:
    """Choose the intervals that hold for a patient: one for each type and unit of the file, in its order."""
    kinds = dict.fromkeys((row.type, row.unit) for row in rows)
    return tuple(_interval(patient, [row for row in rows if (row.type, row.unit) == kind]) for kind in kinds)


def _interval(patient: Patient, rows: Sequence[ReferenceRow]) -> ReferenceInterval:
    label, unit = rows[0].type, rows[0].unit
    for row in rows:
        if row.holds_for(patient):
            return ReferenceInterval(label, unit, (row.low, row.high))
    unknown = [
        name
        for name in ("age", "sex")
        if getattr(patient, name) is None and any(getattr(row, name) is not None for row in rows)
    ]
    reason = f"{' and '.join(unknown)} of the patient not given" if unknown else "none for this age and sex"
    return ReferenceInterval(label, unit, None, reason)
