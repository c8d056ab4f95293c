"""Cells that a model was not sure of: to people, and their answers back into labels and differentials."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from prefect import flow

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.data.reviews.consensus import consensus_of
from sgcldff.data.reviews.store import ReviewStore
from sgcldff.results.review.apply import Applied
from sgcldff.results.review.page import write_page
from sgcldff.results.review.queue import QueuedCell, queue_order, require_free, write_queue
from sgcldff.results.review.selection import ReviewSelection, SlideCells, chosen, read_slide_cells, results_in
from sgcldff.results.review.slide_lookup import find_each
from tasks.artifacts import show_table
from tasks.progress import bar
from tasks.review import apply_to_slide, picture_cells, store_answers


@dataclass(frozen=True)
class Made:
    """A queue that was made."""

    cells: int
    slides: int
    set_aside: tuple[str, ...]
    """Slides and inputs that could not be used, with reasons."""


@flow(name="review-make", flow_run_name="review-make")
def review_make(results: list[str], slides: list[str], out: str, choice: ReviewSelection | None = None) -> Made:
    """Gather cells to review: a folder of their pictures, a table, and a page on which a person tells their types.

    A slide that is gone, changed or damaged is set aside and the others go on. Without any cell nothing is written.

    Args:
        results: Folders of the results of slides, or of a batch.
        slides: The slides that were read: files, folders, patterns, tables or URLs, as for reading them.
        out: Folder of the queue.
        choice: Which cells are reviewed; by default those that were left unidentified.
    """
    place = Path(out)
    require_free(place)
    entries, missing = find_each(slides)
    aside = [*missing]
    found = _one_space(list(_read_all(results_in(results), aside)), aside)
    picked = chosen(found, choice or ReviewSelection())
    cells: list[QueuedCell] = []
    with bar("cells") as progress:
        step = _counted(progress, len(picked))
        for slide in found:
            ours = picked[picked["slide_id"] == slide.slide_id] if len(picked) else picked
            if len(ours):
                _keep(picture_cells.attempt(slide, ours, entries, place, step), cells, aside)
    if cells:
        ordered = sorted(cells, key=queue_order)
        write_queue(place, ordered)
        write_page(place, ordered)
    return Made(len(cells), len({cell.slide_id for cell in cells}), _shown(aside))


def _shown(reasons: Iterable[object]) -> tuple[str, ...]:
    """Show what was set aside with the run, too."""
    told = tuple(map(str, reasons))
    if told:
        show_table([{"reason": reason} for reason in told], key="set-aside")
    return told


def _read_all(folders: Iterable[Path], aside: list[str]) -> Iterator[SlideCells]:
    """Read results; those that are damaged, and slides that were read twice, are set aside."""
    seen: set[str] = set()
    for folder in folders:
        try:
            found = read_slide_cells(folder)
        except InputError as error:
            aside.append(str(error))
            continue
        if not found.cells.empty and found.slide_id in seen:
            aside.append(f"{folder}: slide {found.slide_id} comes a second time: make a queue of its own for it")
        elif not found.cells.empty:
            seen.add(found.slide_id)
            yield found


def _one_space(found: list[SlideCells], aside: list[str]) -> list[SlideCells]:
    """Keep the slides whose cells have the classes of the first one's: a page offers one set of them."""
    for slide in found:
        if slide.classes != found[0].classes:
            names = ", ".join(slide.classes)
            aside.append(f"slide {slide.slide_id}: its model knows other classes ({names}): make a queue of its own")
    return [slide for slide in found if slide.classes == found[0].classes]


def _counted(progress: Callable[[int, int], None], total: int) -> Callable[[], None]:
    done = count(1)
    return lambda: progress(next(done), total)


def _keep(outcome: list[QueuedCell] | BaseException, cells: list[QueuedCell], aside: list[str]) -> None:
    if isinstance(outcome, BaseException):
        aside.append(str(outcome))
    else:
        cells += outcome


@dataclass(frozen=True)
class Stored:
    """Answers that were stored."""

    answers: int
    new: int
    set_aside: tuple[str, ...]
    """Rows and files that could not be used, with reasons."""
    disputed: tuple[str, ...]
    """Answers to cells on which no majority agrees; they are stored."""


@flow(name="review-read", flow_run_name="review-read")
def review_read(answers: list[str], queue: str, store: str) -> Stored:
    """Check the answers of reviewers and store them as labels, each with reviewer and time, beside the pictures.

    Answers that are stored already change nothing; a row that cannot be used is set aside and the others go on.

    Args:
        answers: Files of answers (CSV), or folders that hold them.
        queue: Folder of the queue that was reviewed.
        store: Folder of all reviews; made where there is none.
    """
    place = ReviewStore(Path(store))
    told, new = store_answers(answer_files(answers), Path(queue), place)
    disputed = tuple(map(str, told.disputed(place.reviews())))
    return Stored(len(told.usable), new, _shown(told.set_aside), disputed)


def answer_files(places: Iterable[str]) -> list[Path]:
    """Name files of answers: those given, and the CSV files right in the folders given.

    Raises
    ------
    MissingInputError
        If a folder holds none.
    """
    files = []
    for place in map(Path, places):
        found = sorted(place.glob("*.csv")) if place.is_dir() else [place]
        if not found:
            raise MissingInputError(f"{place}: holds no answers (*.csv)")
        files += found
    return files


@dataclass(frozen=True)
class Recounted:
    """Slides that were counted anew."""

    slides: tuple[Applied, ...]
    unreviewed: int
    """Slides of which nobody reviewed a cell."""
    set_aside: tuple[str, ...]
    """Slides whose results could not be read, with reasons."""


@flow(name="review-apply", flow_run_name="review-apply")
def review_apply(results: list[str], store: str) -> Recounted:
    """Recompute differentials with the labels that reviewers gave, beside the machine's own.

    Args:
        results: Folders of the results of slides, or of a batch.
        store: Folder of the reviews.
    """
    verdicts = consensus_of(ReviewStore.open(store).reviews())
    folders = results_in(results)
    outcomes = [apply_to_slide.attempt(folder, verdicts) for folder in folders]
    applied = tuple(one for one in outcomes if isinstance(one, Applied))
    named = zip(folders, outcomes, strict=True)
    failed = _shown(f"slide {folder.name}: {one}" for folder, one in named if isinstance(one, BaseException))
    return Recounted(applied, outcomes.count(None), failed)
