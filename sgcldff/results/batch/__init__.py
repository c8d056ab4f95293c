"""The results of a batch of slides: one table, and one page that shows which slides need review and why."""

from collections.abc import Iterable
from pathlib import Path

from sgcldff.results.batch.origin import known_sha256, require_own_folders, unread, write_origin
from sgcldff.results.batch.page import write_page
from sgcldff.results.batch.summary import SlideSummary, write_summary
from sgcldff.results.batch.table import batch_schema, write_table
from sgcldff.results.batch.triage import WATCHED, Reason, TriagedSlide, Urgency, triage

__all__ = [
    "WATCHED",
    "Reason",
    "SlideSummary",
    "TriagedSlide",
    "Urgency",
    "batch_schema",
    "known_sha256",
    "require_own_folders",
    "triage",
    "unread",
    "write_batch",
    "write_origin",
    "write_page",
    "write_summary",
    "write_table",
]


def write_batch(folder: str | Path, slides: Iterable[SlideSummary]) -> tuple[Path, Path]:
    """Write `batch.parquet`, one row per slide, and `batch.html`, slides that need review first; returns both paths.

    Parameters
    ----------
    folder
        Of the batch; the slides' folders below it carry the names of the slides.
    """
    triaged = triage(slides)
    return write_table(Path(folder) / "batch.parquet", triaged), write_page(Path(folder) / "batch.html", triaged)
