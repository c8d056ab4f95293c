"""Answers of reviewers, checked against the queue that they were asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.core.labels import OTHER, broader_types, foreign_types, resolve_label
from sgcldff.core.settings import require
from sgcldff.core.tables import TableRow, read_rows
from sgcldff.data.reviews.consensus import consensus_of, in_future
from sgcldff.data.reviews.store import CANNOT_TELL, Review
from sgcldff.results.review.queue import FORMULA, QueuedCell
from sgcldff.slides.images import sha256_of

ANSWER_COLUMNS = ("cell_id", "label", "reviewer", "reviewed_at")


@dataclass(frozen=True)
class Problem:
    """An answer that needs attention."""

    place: str
    """File and row."""
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class Answer:
    """An answer that can be used, and where it stands."""

    place: str
    review: Review
    picture: Path


@dataclass(frozen=True)
class Answers:
    """What files of answers hold."""

    usable: tuple[Answer, ...]
    set_aside: tuple[Problem, ...]

    def disputed(self, reviews: Iterable[Review]) -> tuple[Problem, ...]:
        """Name the answers to cells on which, with all `reviews`, no majority of the reviewers agrees."""
        places = {answer.review.id: answer.place for answer in self.usable}
        found = [verdict for verdict in consensus_of(reviews) if verdict.disputed]
        return tuple(
            Problem(place, f"cell {vote.cell_id}: {says}: the cell stays unidentified until a majority agrees")
            for verdict in found
            for says in [" and ".join(f"{vote.reviewer} says {vote.label}" for vote in verdict.votes)]
            for vote in verdict.votes
            if (place := places.get(vote.id))
        )


def read_answers(files: Iterable[str | Path], folder: Path, queue: Iterable[QueuedCell]) -> Answers:
    """Read files of answers (CSV or Parquet: cell_id, label, reviewer, reviewed_at) to the queue in `folder`.

    A row of an unknown cell or label, without a reviewer or a time, or with a second answer of a reviewer to a cell in
    the same file, is skipped with its reason, and so is a file that cannot be read; the rest is used. A second row
    that says the same is ignored.
    """
    known = {cell.cell_id: cell for cell in queue}
    usable, problems = list[Answer](), list[Problem]()
    for file in map(Path, files):
        try:
            rows = read_rows(file, ANSWER_COLUMNS)
        except InputError as error:
            problems.append(Problem(str(file), str(error).removeprefix(f"{file}: ")))
            continue
        _read_file(file, rows, _Reader(folder, known, {}), (usable, problems))
    return Answers(tuple(usable), tuple(problems))


def _read_file(
    file: Path, rows: Iterable[TableRow], reader: "_Reader", into: tuple[list[Answer], list[Problem]]
) -> None:
    usable, problems = into
    for number, row in enumerate(rows, 1):
        place = f"{file}, row {number}"
        try:
            if answer := reader.read(place, row):
                usable.append(answer)
        except InputError as error:
            problems.append(Problem(place, str(error)))


@dataclass(frozen=True)
class _Reader:
    """Reads the rows of one file."""

    folder: Path
    queue: Mapping[str, QueuedCell]
    seen: dict[tuple[str, str], Answer]
    """Cell and reviewer -> the answer."""

    def read(self, place: str, row: TableRow) -> Answer | None:
        """Make a row an answer; None where an earlier row says the same."""
        cell = self.queue.get(row["cell_id"])
        if cell is None:
            raise InputError(f"cell {row['cell_id']!r} is not in the queue {self.folder}: name the queue it comes from")
        picture = self.folder / cell.crop
        if not picture.is_file():
            raise InputError(f"the picture of cell {cell.cell_id}, {cell.crop}, is missing: make the queue again")
        answer = Answer(place, _review(cell, row, sha256_of(picture)), picture)
        return self._once(answer)

    def _once(self, answer: Answer) -> Answer | None:
        review = answer.review
        first = self.seen.setdefault((review.cell_id, review.reviewer.casefold()), answer)
        if first is answer:
            return answer
        if first.review.id == review.id:
            return None
        raise InputError(
            f"{review.reviewer} answered cell {review.cell_id} before, with {first.review.label} "
            f"({first.place}): keep one of the rows"
        )


def _review(cell: QueuedCell, row: TableRow, crop_sha256: str) -> Review:
    lineage = cell.lineage
    return Review(
        cell_id=cell.cell_id,
        slide_id=cell.slide_id,
        slide_sha256=lineage.slide_sha256,
        x_um=cell.x_um,
        y_um=cell.y_um,
        label=_label(cell, row["label"]),
        reviewer=reviewer_name(row["reviewer"]),
        reviewed_at=_time(row["reviewed_at"]),
        crop_sha256=crop_sha256,
        crop_mpp=cell.crop_mpp,
        told=cell.label,
        confidence=cell.confidence,
        model_name=lineage.model_name,
        model_version=lineage.model_version,
        model_digest=lineage.model_digest,
    )


def _label(cell: QueuedCell, text: str) -> str:
    choices = (*cell.classes, *broader_types(cell.classes), CANNOT_TELL, *foreign_types(cell.classes))
    known = {name.lower(): name for name in choices}
    for name in (text.lower(), resolve_label(text, known)):
        if name in known:
            return known[name]
    words = " ".join(text.lower().split()).removeprefix(OTHER.strip()).strip()
    if text.lower().startswith(OTHER.strip()) and words:
        return OTHER + words
    raise InputError(
        f"label {text!r} of cell {cell.cell_id} is unknown; the choices are {', '.join(known.values())}, or words of "
        f"your own after {OTHER.strip()!r}"
    )


def reviewer_name(text: str) -> str:
    """Return a person's name without surplus blanks.

    Raises
    ------
    InputError
        If there is none, or it starts a formula in a spreadsheet.
    """
    name = " ".join(text.split())
    require(bool(name), "reviewer is empty: name the person")
    require(not FORMULA.match(name), f"reviewer {name!r} starts a formula in a spreadsheet: write a name")
    return name


def _time(text: str) -> datetime:
    example = "write it as 2026-03-01T09:30:00Z"
    try:
        moment = datetime.fromisoformat(text)
        utc = moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(f"reviewed_at {text!r} is no time: {example}") from error
    require(moment.tzinfo is not None, f"reviewed_at {text!r} has no time zone: {example}")
    require(not in_future(utc), f"reviewed_at {text!r} lies in the future: correct it")
    return utc
