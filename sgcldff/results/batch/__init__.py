"""What a batch of slides leaves behind: one table, and one page that shows which slides need a look and why."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sgcldff.results.batch.origin import known_sha256, require_own_folders, unread, write_origin
from sgcldff.results.batch.page import write_page
from sgcldff.results.batch.summary import SlideSummary, write_summary
from sgcldff.results.batch.table import batch_schema, write_table
from sgcldff.results.batch.triage import WATCHED, Judged, Reason, Urgency, judge

__all__ = [
    "WATCHED",
    "Judged",
    "Reason",
    "SlideSummary",
    "Urgency",
    "batch_schema",
    "judge",
    "known_sha256",
    "require_own_folders",
    "unread",
    "write_batch",
    "write_origin",
    "write_page",
    "write_summary",
    "write_table",
]


def write_batch(
    folder: str | Path, slides: Iterable[SlideSummary], watched: Sequence[str] = WATCHED
) -> tuple[Path, Path]:
    """Write `batch.parquet`, a row a slide, and `batch.html`, slides that need a look first.

    Parameters
    ----------
    folder
        Of the batch; the slides' folders below it carry the names of the slides.
    watched
        Types of which a single cell calls for a look.

    Returns
    -------
    tuple of Path
        Table and page.
    """
    judged = judge(slides, watched)
    return write_table(Path(folder) / "batch.parquet", judged), write_page(Path(folder) / "batch.html", judged)
