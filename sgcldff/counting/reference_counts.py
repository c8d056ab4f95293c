"""Reference counts of a validation study: every specimen counted by two readers."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
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
    """A specimen as two readers counted it, on one slide or several."""

    specimen: str
    slides: tuple[str, ...]
    readers: tuple[str, str]
    """In alphabetical order."""
    counts: tuple[Counts, Counts]
    """What each of them counted on all slides."""
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


@dataclass(frozen=True)
class ReferenceTable:
    """The counts of a study as they stand in their table."""

    path: Path
    rows: Mapping[str, Sequence[tuple[int, TableRow]]]
    """Specimen -> its rows with their numbers."""

    @classmethod
    def read(cls, path: str | Path) -> "ReferenceTable":
        """Read a CSV or Parquet table: columns slide_id and reader, and label and count or one column per type.

        Optional are age, sex, and specimen, which names slides of the same blood; without it every slide is a specimen.

        Raises
        ------
        InputError
            If the table cannot be read or holds no count, or a slide belongs to two specimens.
        """
        path, rows, specimens = Path(path), defaultdict[str, list[tuple[int, TableRow]]](list), dict[str, str]()
        for number, row in enumerate(read_rows(path, ["slide_id", "reader"]), 1):
            for column in ("slide_id", "reader"):
                if not row[column]:
                    raise InputError(f"{path}, row {number}: {column} is empty: fill it, or remove the row")
            specimen = row.get("specimen") or row["slide_id"]
            if specimens.setdefault(row["slide_id"], specimen) != specimen:
                raise InputError(
                    f"{path}, row {number}: slide {row['slide_id']!r} is of specimen {specimen!r} here, of"
                    f" {specimens[row['slide_id']]!r} before: correct one of them"
                )
            rows[specimen].append((number, row))
        if not rows:
            raise InputError(f"{path}: holds no count: give one row per slide and reader")
        return cls(path, rows)

    def counts(self, classes: Iterable[str] | None = None) -> tuple[ReferenceCount, ...]:
        """Add up the counts of each specimen by reader; names of types are understood as in manual counts.

        Raises
        ------
        LabelError
            If a type is unknown.
        InputError
            If a value is invalid, a specimen was not counted by two readers, a reader counted no white cell, or rows of
            a specimen contradict each other; the message names the table, the row or specimen, and the remedy.
        """
        known = None if classes is None else tuple(classes)
        return tuple(self._counted(specimen, rows, known) for specimen, rows in self.rows.items())

    def _counted(
        self, specimen: str, rows: Sequence[tuple[int, TableRow]], classes: Iterable[str] | None
    ) -> ReferenceCount:
        slides = tuple(dict.fromkeys(row["slide_id"] for _, row in rows))
        kind = "slide" if slides == (specimen,) else "specimen"
        place = f"{self.path}, {kind} {specimen!r}"
        readers = sorted({row["reader"] for _, row in rows})
        if len(readers) != READERS:
            names = ", ".join(readers)
            raise InputError(
                f"{place}: counted by {len(readers)} ({names}): give the counts of two readers, or remove it"
            )
        counts = [Counter[str](), Counter[str]()]
        for slide, (reader, total) in product(slides, zip(readers, counts, strict=True)):
            own = [(number, row) for number, row in rows if (row["slide_id"], row["reader"]) == (slide, reader)]
            total.update(counts_in(self.path, own, classes))
        for reader, total in zip(readers, counts, strict=True):
            if not white_cells(total):
                raise InputError(f"{place}: {reader} counted no white cell: give the count, or remove the {kind}")
        known = {read_patient(f"{self.path}, row {number}", row) for number, row in rows} - {Patient()}
        if len(known) > 1:
            raise InputError(f"{place}: its rows give different ages or sexes: correct them")
        first, second = readers
        both = (dict(counts[0]), dict(counts[1]))
        return ReferenceCount(specimen, slides, (first, second), both, *(known or {Patient()}))
