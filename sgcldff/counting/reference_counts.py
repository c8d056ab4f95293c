"""Reference counts of a validation study: every slide counted by two readers."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.core.labels import NOT_WHITE, SUBTYPES
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.core.tables import TableRow, read_rows
from sgcldff.counting.agreement import Counts, counts_in
from sgcldff.slides.patient import Patient, read_patient

READERS = 2


@dataclass(frozen=True)
class ReferenceCount:
    """A slide as two readers counted it."""

    slide_id: str
    readers: tuple[str, str]
    """In alphabetical order."""
    counts: tuple[Counts, Counts]
    """What each of them counted."""
    patient: Patient
    """Age and sex, where they are given."""

    @property
    def pooled(self) -> Counts:
        """Both counts together: the reference."""
        first, second = map(Counter, self.counts)
        return {label: first[label] + second[label] for label in {**first, **second}}


def white_cells(counts: Counts) -> int:
    """Return the white cells of a count: the denominator of its shares."""
    return sum(count for label, count in counts.items() if label not in (*NOT_WHITE, UNIDENTIFIED))


def cells_of(counts: Counts, label: str) -> int:
    """Return the cells of a type, those of its subtypes among them."""
    return sum(counts.get(one, 0) for one in (label, *SUBTYPES.get(label, ())))


def share_of(counts: Counts, label: str) -> float:
    """Return a type's share of the white cells; of cells that are none, cells per white cell."""
    return cells_of(counts, label) / white_cells(counts)


def read_reference_counts(path: str | Path, classes: Iterable[str] | None = None) -> tuple[ReferenceCount, ...]:
    """Read the counts of a study.

    The CSV (or Parquet) table has the columns slide_id and reader, and either label and count or one column per type;
    optionally age and sex. Names of types are understood as in manual counts.

    Raises
    ------
    LabelError
        If a type is unknown.
    InputError
        If the table cannot be read, a value is invalid, a slide was not counted by two readers, a reader counted no
        white cell, or the rows of a slide contradict each other; the message names the table, the row or slide, and the
        remedy.
    """
    path, known = Path(path), None if classes is None else tuple(classes)
    rows: dict[str, dict[str, list[tuple[int, TableRow]]]] = defaultdict(lambda: defaultdict(list))
    for number, row in enumerate(read_rows(path, ["slide_id", "reader"]), 1):
        for column in ("slide_id", "reader"):
            if not row[column]:
                raise InputError(f"{path}, row {number}: {column} is empty: fill it, or remove the row")
        rows[row["slide_id"]][row["reader"]].append((number, row))
    if not rows:
        raise InputError(f"{path}: holds no count: give one row per slide and reader")
    return tuple(_reference_count(path, slide, by_reader, known) for slide, by_reader in rows.items())


def _reference_count(
    path: Path, slide: str, rows: dict[str, list[tuple[int, TableRow]]], classes: Iterable[str] | None
) -> ReferenceCount:
    place = f"{path}, slide {slide!r}"
    if len(rows) != READERS:
        names = ", ".join(sorted(rows))
        raise InputError(f"{place}: counted by {len(rows)} ({names}): give the counts of two readers, or remove it")
    first, second = sorted(rows)
    counts = tuple(counts_in(path, rows[reader], classes) for reader in (first, second))
    for reader, count in zip((first, second), counts, strict=True):
        if not white_cells(count):
            raise InputError(f"{place}: {reader} counted no white cell: give the count, or remove the slide")
    stated = {read_patient(f"{path}, row {number}", row) for own in rows.values() for number, row in own}
    known = stated - {Patient()}
    if len(known) > 1:
        raise InputError(f"{place}: its rows give different ages or sexes: correct them")
    return ReferenceCount(slide, (first, second), (counts[0], counts[1]), *(known or {Patient()}))
