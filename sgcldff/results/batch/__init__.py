"""The results of a batch of slides: one table, and one page that shows which slides need review and why."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.results.batch.origin import known_sha256, require_own_folders, unread, write_origin
from sgcldff.results.batch.page import write_page
from sgcldff.results.batch.summary import SlideSummary, cells_by_type, write_summary
from sgcldff.results.batch.table import batch_schema, write_batch_table
from sgcldff.results.batch.triage import Reason, TriagedSlide, Urgency, triage

__all__ = [
    "BATCH_PAGE",
    "Reason",
    "SlideSummary",
    "TriagedSlide",
    "Urgency",
    "batch_schema",
    "cells_by_type",
    "known_sha256",
    "require_own_folders",
    "triage",
    "unread",
    "update_batches",
    "write_batch",
    "write_batch_table",
    "write_origin",
    "write_page",
    "write_summary",
]

BATCH_TABLE, BATCH_PAGE = "batch.parquet", "batch.html"


def write_batch(folder: str | Path, slides: Iterable[SlideSummary]) -> tuple[Path, Path]:
    """Write `batch.parquet`, one row per slide, and `batch.html`, slides that need review first; returns both paths.

    Parameters
    ----------
    folder
        Of the batch; the slides' folders below it carry the names of the slides.
    """
    triaged = triage(slides)
    return write_batch_table(Path(folder) / BATCH_TABLE, triaged), write_page(Path(folder) / BATCH_PAGE, triaged)


def update_batches(slides: Iterable[Path]) -> tuple[str, ...]:
    """Write table and page of the batches around slides' folders again, after people worked on the slides.

    Returns
    -------
    tuple
        Why batches could not be written: their table, or a file of one of their slides, is damaged.
    """
    reasons = []
    for folder in sorted({slide.parent for slide in slides}):
        if not (folder / BATCH_TABLE).exists():
            continue
        try:
            with reading(folder / BATCH_TABLE, "not the table of a batch", "read its slides again"):
                names = pq.read_table(folder / BATCH_TABLE, columns=["slide_id"])["slide_id"].to_pylist()
            write_batch(folder, [SlideSummary.read(folder / name) for name in names])
        except InputError as error:
            reasons.append(f"{folder / BATCH_TABLE} was not updated: {error}")
    return tuple(reasons)
