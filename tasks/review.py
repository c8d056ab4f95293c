"""Tasks of the review by people: crop cells for the queue, store answers, apply them to results."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sgcldff.data.reviews.consensus import Consensus
from sgcldff.data.reviews.store import ReviewStore
from sgcldff.models.runtimes import Runtime
from sgcldff.results.review.answers import Answers, read_answers
from sgcldff.results.review.apply import Applied, apply_reviews
from sgcldff.results.review.crops import CROPS_FOLDER, Crops, crop_name, write_png
from sgcldff.results.review.queue import QueuedCell, queued, read_queue
from sgcldff.results.review.representatives import embed_cells
from sgcldff.results.review.selection import SlideCells
from sgcldff.results.review.slide_lookup import namesakes, open_read
from sgcldff.slides import SlideEntry, SlideSource
from tasks.artifacts import show_table
from tasks.policy import DATA, SLIDES
from tasks.slides import private
from tasks.stages import stage


@stage("picture-cells", SLIDES)
def picture_cells(
    found: SlideCells, cells: pd.DataFrame, slides: Sequence[SlideEntry], out: Path, progress: Callable[[], None]
) -> list[QueuedCell]:
    """Crop the pictures of a slide's selected cells; returns their rows of the queue."""
    names = [crop_name(found.sha256, cell_id) for cell_id in cells["cell_id"]]
    centres = zip(cells["y"], cells["x"], strict=True)
    with opened_slide(found, slides) as source:
        crops = Crops(source)
        for name, centre in zip(names, centres, strict=True):
            write_png(out / CROPS_FOLDER / name, crops.read(centre))
            progress()
        return queued(cells, found.classes, source)


@stage("embed-cells", SLIDES)
def embed_candidates(
    found: SlideCells, cells: pd.DataFrame, slides: Sequence[SlideEntry], runtime: Runtime
) -> NDArray[np.float32]:
    """Embed cells of a slide, among which the representative ones are chosen; (N, D)."""
    with opened_slide(found, slides) as source:
        return embed_cells(source, list(zip(cells["y"], cells["x"], strict=True)), runtime)


@contextmanager
def opened_slide(found: SlideCells, slides: Sequence[SlideEntry]) -> Iterator[SlideSource]:
    """Open the slide that results were read from."""
    with ExitStack() as opened:
        for slide in namesakes(found, slides):
            opened.enter_context(private(slide))
        yield opened.enter_context(closing(open_read(found, slides)))


@stage("store-answers", DATA)
def store_answers(files: Sequence[Path], queue: Path, store: ReviewStore) -> tuple[Answers, int]:
    """Check answers against their queue and store the usable ones; returns them and the number of new ones."""
    answers = read_answers(files, queue, read_queue(queue))
    reviews = [answer.review for answer in answers.usable]
    pictures = {answer.review.crop_sha256: answer.picture for answer in answers.usable}
    added = store.add(reviews, pictures)
    counts = sorted(Counter((review.reviewer, review.label) for review in reviews).items())
    rows = [{"reviewer": name, "label": label, "answers": number} for (name, label), number in counts]
    show_table(rows, key="answers", description=f"{added} new answers")
    return answers, added


@stage("apply-reviews", SLIDES, subject=lambda folder, _: folder.name)
def apply_to_slide(folder: Path, verdicts: Sequence[Consensus]) -> Applied | None:
    """Recount a slide with the reviewers' labels; None if no cell of it was reviewed."""
    applied = apply_reviews(folder, verdicts)
    if applied is not None:
        shares = [{"type": one.label, "count": one.count, "share": one.share} for one in applied.reviewed.shares]
        show_table(shares, key="differential-reviewed", description=applied.slide_id)
    return applied
