"""What a list of slides says of the patients."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated

from annotated_types import Interval

from sgcldff.core.errors import InputError
from sgcldff.core.settings import MAX_WBC, MIN_WBC
from sgcldff.core.tables import number
from sgcldff.core.validation import Spec

OLDEST = 130.0
"""Years."""


class Sex(StrEnum):
    """Sex by which reference intervals differ."""

    FEMALE = "female"
    MALE = "male"


@dataclass(frozen=True)
class Patient(Spec):
    """Blood count, age and sex of the patient; None where it is not known."""

    wbc: Annotated[float, Interval(ge=MIN_WBC, le=MAX_WBC)] | None = None
    """White count of the blood, 10^9/L."""
    age: Annotated[float, Interval(ge=0, le=OLDEST)] | None = None
    """Years."""
    sex: Sex | None = None
    nrbc_excluded: bool | None = None
    """Whether the white count leaves nucleated red cells out; otherwise it is corrected for them."""

    def completed(self, other: "Patient") -> "Patient":
        """Fill in from another what is not known."""
        pairs = {item.name: (getattr(self, item.name), getattr(other, item.name)) for item in fields(self)}
        return Patient(**{name: yours if mine is None else mine for name, (mine, yours) in pairs.items()})


UNKNOWN_PATIENT = Patient()


def read_patient(place: str, row: Mapping[str, str]) -> Patient:
    """Read the columns wbc, age and sex of a row, as far as it has them.

    Parameters
    ----------
    place
        File and row, for messages.

    Raises
    ------
    InputError
        If a number is none or out of bounds, or the sex is unknown.
    """
    wbc, age = row.get("wbc"), row.get("age")
    return Patient(
        number(place, "wbc (10^9/L; 7200 per µL are 7.2)", wbc, (MIN_WBC, MAX_WBC)) if wbc else None,
        number(place, "age (years; 0.02 is a week)", age, (0, OLDEST)) if age else None,
        _sex(place, row.get("sex", "")),
    )


def _sex(place: str, text: str) -> Sex | None:
    named = {name: sex for sex in Sex for name in (sex.value, sex.value[0])} | {"": None, "unknown": None}
    if text.lower() not in named:
        raise InputError(f"{place}: sex is {text!r}; give female, male or nothing")
    return named[text.lower()]
