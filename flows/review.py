"""Human review of uncertain cells: a queue of pictures out, answers back into labels and differentials."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from flows.recorded import recorded_flow
from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.data.reviews.consensus import consensus_of
from sgcldff.data.reviews.store import ReviewStore
from sgcldff.models.runtimes import Runtime, load_runtime
from sgcldff.registry import choose_model
from sgcldff.results.batch import update_batches
from sgcldff.results.review.apply import Applied
from sgcldff.results.review.page import write_page
from sgcldff.results.review.queue import QueuedCell, queue_order, require_free, write_queue
from sgcldff.results.review.representatives import CELLS_DRAWN, representatives
from sgcldff.results.review.selection import (
    LEAST_SURE,
    REPRESENTATIVE,
    ReviewSelection,
    SlideCells,
    chosen,
    least_sure,
    read_slide_cells,
    results_in,
)
from sgcldff.results.review.slide_lookup import find_each
from sgcldff.slides import SlideEntry
from tasks.artifacts import show_table
from tasks.progress import bar
from tasks.review import apply_to_slide, embed_candidates, picture_cells, store_answers
from tasks.workspace import WORKSPACE, Workspace


@dataclass(frozen=True)
class Made:
    """A queue that was made."""

    cells: int
    slides: int
    skipped: tuple[str, ...]
    """Slides and inputs that could not be used, with reasons."""
    least_sure: bool = False
    """No cell was asked for by label, confidence or sample: these are the cells of which the model was least sure."""


@recorded_flow("review-make", "results")
def review_make(
    results: list[str],
    slides: list[str],
    out: str,
    choice: ReviewSelection | None = None,
    workspace: str = str(WORKSPACE),
    model: str | None = None,
) -> Made:
    """Gather cells to review: a folder of their pictures, a table, and a page on which a person classifies them.

    A slide that is missing, changed or damaged is skipped and the others go on. Without any cell nothing is written.

    Args:
        results: Folders of the results of slides, or of a batch.
        slides: The slides that were read: files, folders, patterns, tables or URLs, as for reading them.
        out: Folder of the queue.
        choice: Which cells are reviewed; by default the unidentified or, where there are none, the least sure ones.
        workspace: Folder of the registry; used to choose representative cells.
        model: The model that compares cells to choose representative ones, as for reading slides.
    """
    queue, wanted = Path(out), choice or ReviewSelection()
    require_free(queue)
    entries, missing = find_each(slides)
    skipped = [*missing]
    found = _same_classes(list(_read_all(results_in(results), skipped)), skipped)
    selected = chosen(found, wanted)
    if wanted.representative:
        runtime = load_runtime(choose_model(Workspace(workspace).tracking_uri, model).folder)
        compared = _representative(found, entries, runtime, wanted.representative, skipped)
        selected = pd.concat([compared, selected]).drop_duplicates(["slide_id", "cell_id"])
    unsure = selected.empty and bool(found) and UNIDENTIFIED in wanted.labels
    if unsure:
        selected = least_sure(found, wanted.limit or LEAST_SURE)
    cells: list[QueuedCell] = []
    with bar("cells") as progress:
        done = count(1)
        for slide in found:
            rows = selected[selected["slide_id"] == slide.slide_id] if len(selected) else selected
            if len(rows):
                outcome = picture_cells.attempt(
                    slide, rows, entries, queue, lambda: progress(next(done), len(selected))
                )
                if isinstance(outcome, Exception):
                    skipped.append(str(outcome))
                else:
                    cells += outcome
    if cells:
        ordered = sorted(cells, key=queue_order)
        write_queue(queue, ordered)
        write_page(queue, ordered)
    return Made(len(cells), len({cell.slide_id for cell in cells}), _show_skipped(skipped), unsure)


def _representative(
    found: list[SlideCells], entries: Sequence[SlideEntry], runtime: Runtime, number: int, skipped: list[str]
) -> pd.DataFrame:
    """Choose the cells that together represent the cells of all slides."""
    drawn = chosen(found, ReviewSelection(labels=(), sample=CELLS_DRAWN))
    cells, embeddings = [drawn.head(0)], []
    for slide in found:
        rows = drawn[drawn["slide_id"] == slide.slide_id]
        if rows.empty:
            continue
        outcome = embed_candidates.attempt(slide, rows, entries, runtime)
        if isinstance(outcome, Exception):
            skipped.append(str(outcome))
        else:
            cells.append(rows)
            embeddings.append(outcome)
    if not embeddings:
        return drawn.head(0)
    kept = representatives(np.concatenate(embeddings), number)
    return pd.concat(cells).iloc[kept].assign(why=REPRESENTATIVE)


def _show_skipped(reasons: Iterable[object]) -> tuple[str, ...]:
    """Show why inputs were skipped on the run's page as well."""
    texts = tuple(map(str, reasons))
    if texts:
        show_table([{"reason": reason} for reason in texts], key="set-aside")
    return texts


def _read_all(folders: Iterable[Path], skipped: list[str]) -> Iterator[SlideCells]:
    """Read results; damaged ones, and slides that occur twice, are skipped."""
    seen: set[str] = set()
    for folder in folders:
        try:
            found = read_slide_cells(folder)
        except InputError as error:
            skipped.append(str(error))
            continue
        if not found.cells.empty and found.slide_id in seen:
            skipped.append(f"{folder}: slide {found.slide_id} occurs twice: make a queue of its own for it")
        elif not found.cells.empty:
            seen.add(found.slide_id)
            yield found


def _same_classes(found: list[SlideCells], skipped: list[str]) -> list[SlideCells]:
    """Keep the slides whose model has the classes of the first one's, since a page offers one set of classes."""
    for slide in found:
        if slide.classes != found[0].classes:
            names = ", ".join(slide.classes)
            skipped.append(f"slide {slide.slide_id}: its model has other classes ({names}): make a queue of its own")
    return [slide for slide in found if slide.classes == found[0].classes]


@dataclass(frozen=True)
class Stored:
    """Answers that were stored."""

    answers: int
    new: int
    skipped: tuple[str, ...]
    """Rows and files that could not be used, with reasons."""
    disputed: tuple[str, ...]
    """Stored answers to cells on which there is no majority."""


@recorded_flow("review-read", "answers")
def review_read(answers: list[str], queue: str, store: str) -> Stored:
    """Check the answers of reviewers and store them as labels, each with reviewer and time, beside the pictures.

    Answers that are stored already change nothing; a row that cannot be used is skipped and the others go on.

    Args:
        answers: Files of answers (CSV), or folders that contain them.
        queue: Folder of the queue that was reviewed.
        store: Folder of all reviews; created if needed.
    """
    reviews = ReviewStore(Path(store))
    files = []
    for path in map(Path, answers):
        in_folder = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not in_folder:
            raise MissingInputError(f"{path}: contains no answers (*.csv)")
        files += in_folder
    read, new = store_answers(files, Path(queue), reviews)
    disputed = tuple(map(str, read.disputed(reviews.reviews())))
    return Stored(len(read.usable), new, _show_skipped(read.set_aside), disputed)


@dataclass(frozen=True)
class Recounted:
    """Slides whose differentials were recomputed."""

    slides: tuple[Applied, ...]
    unreviewed: int
    """Slides without a reviewed cell."""
    skipped: tuple[str, ...]
    """Slides and batches whose results could not be read, with reasons."""


@recorded_flow("review-apply", "results")
def review_apply(results: list[str], store: str) -> Recounted:
    """Recompute differentials with the reviewers' labels, beside the model's own.

    Args:
        results: Folders of the results of slides, or of a batch.
        store: Folder of the reviews.
    """
    verdicts = consensus_of(ReviewStore.open(store).reviews())
    folders = results_in(results)
    outcomes = [apply_to_slide.attempt(folder, verdicts) for folder in folders]
    applied = tuple(outcome for outcome in outcomes if isinstance(outcome, Applied))
    pairs = zip(folders, outcomes, strict=True)
    reasons = [f"slide {folder.name}: {error}" for folder, error in pairs if isinstance(error, Exception)]
    failed = _show_skipped((*reasons, *update_batches(folders)))
    return Recounted(applied, outcomes.count(None), failed)
