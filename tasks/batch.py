"""A batch of slides: which are read, with which model and workers, and how failures are reported."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from sgcldff.core.errors import IncompleteBatchError, InputError, ServiceError, TaskLostError
from sgcldff.core.locations import is_remote, shown
from sgcldff.core.markdown import escape_markdown
from sgcldff.core.settings import InferSpec, ModelSpec, ReportSpec, StatedMpp, require
from sgcldff.core.wording import skipped
from sgcldff.counting.agreement import read_manual
from sgcldff.counting.reference_intervals import read_reference
from sgcldff.counting.specimen import specimen_of
from sgcldff.counting.stopping import Goal
from sgcldff.models.checkpoint import SPEC_FILE, read_spec
from sgcldff.models.reference import require_typicality
from sgcldff.registry import ChosenModel
from sgcldff.results.batch import SlideSummary, cells_by_type, require_own_folders, write_batch
from sgcldff.results.delivery import deliver, local_results
from sgcldff.results.slide import SlideJob
from sgcldff.slides import SlideEntry, open_slide
from sgcldff.slides.patient import Patient
from sgcldff.slides.pixels.page_selection import Plane
from sgcldff.slides.scale_group import ScaleGroup, scale_groups
from tasks.artifacts import link_to, show_markdown, show_table
from tasks.compute import Compute, Workers, workers
from tasks.live_view import BatchView
from tasks.slides import on_these_workers, read_slide, record_skipped
from tasks.stages import model_ids
from tasks.tracking import record_reading

logger = logging.getLogger(__name__)

SLIDES_AT_ONCE = 2
"""Slides under way: while one is opened or written, the workers read the other."""
FEW_TILES = 64
"""Work that is done before workers have started."""


@dataclass(frozen=True)
class Batch:
    """How a batch of slides is counted."""

    mpp: StatedMpp = None
    """um/px of slides whose files do not say it; "auto" measures it by their red cells."""
    until: str | None = None
    """Read only a random sample of each slide: until the interval of a type is narrow enough, "monocyte:0.05"."""
    manual: str | None = None
    """Table of manual counts to compare with: slide_id, label, count."""
    retry_failed: bool = False
    """Read only slides that an earlier run skipped."""
    page: int | None = None
    """Page, series or time of the slides for which none is named, counted from 1."""
    z: int | None = None
    """Focal plane of the slides for which none is named, counted from 1."""
    wbc: float | None = None
    """White count of the blood on the slide, 10^9/L; a table of slides says it for several."""
    reference: str | None = None
    """TOML file of reference intervals; unset: that of the settings."""
    nrbc_excluded: bool | None = None
    """Whether white counts leave nucleated red cells out; unset: as the settings say."""
    cells: str | None = None
    """File of outlines of cells on the only slide, which are classified; none are searched."""
    also: tuple[str, ...] = ()
    """Formats of `sgcldff.results.exports` that are written too."""

    @property
    def plane(self) -> Plane:
        """What is read of files that hold several pictures."""
        return Plane(self.page, self.z)


def read_batch(
    entries: Sequence[SlideEntry],
    model: ChosenModel,
    out: str,
    how: Batch,
    compute: Compute,
    spec: InferSpec,
    report: ReportSpec,
) -> list[str]:
    """Read slides; returns the folders of their results.

    Parameters
    ----------
    out
        Folder or URL (`s3://bucket/prefix`) for the results, one folder per slide, and a table and a page of the batch.

    Raises
    ------
    InputError
        If none of the slides could be read, or `out` holds results of others of the same name.
    IncompleteBatchError
        If some slides were skipped, or a manual count is of none of the slides; the message names them.
    """
    place = str(local_results(out))
    require_own_folders(entries, place)
    require(
        how.wbc is None or len(entries) == 1,
        f"white count {how.wbc}: given for {len(entries)} slides; name each slide's in a table with a column wbc",
    )
    require(how.cells is None or len(entries) == 1, f"{how.cells}: outlines are of one slide, not of {len(entries)}")
    require(how.cells is None or how.until is None, f"{how.cells}: all of its cells are classified: leave --until out")
    file = how.reference or report.reference
    excluded = report.nrbc_excluded if how.nrbc_excluded is None else how.nrbc_excluded
    counted = Patient(how.wbc, nrbc_excluded=excluded)
    reference = read_reference(file) if file else ()
    logger.info("slides are read with %s", model, extra=model_ids(model.model))
    require_typicality(model.folder, spec.min_typicality)
    network = read_spec(model.folder / SPEC_FILE)
    goal = how.until and Goal.parse(how.until, network.labels.classes)
    counts = {} if how.manual is None else read_manual(how.manual, network.labels.classes)
    ids = {slide.id for slide in entries}
    groups = scale_groups(entries)
    few = compute == Compute() and tiles_at_most(entries, groups, network, spec, FEW_TILES)
    with (
        BatchView(len(entries), timed=True) as view,
        workers(compute, here=few, announce=view.dashboard_at) as found,
    ):
        used = on_these_workers(spec, found)
        jobs = [
            SlideJob(
                slide,
                str(model.folder),
                model.model,
                place,
                used,
                goal or None,
                counts.get(slide.id),
                specimen_of(slide.patient.completed(counted), file, reference),
                groups[slide.uri],
                how.cells,
                how.also,
                in_batch=True,
            )
            for slide in entries
        ]
        failed = read_slides(jobs, found, view, partial(deliver, out))
    summaries = [SlideSummary.read(job.folder) for job in jobs]
    write_batch(place, summaries)
    deliver(out)
    show_markdown(overview(summaries, model, out), key="batch", description="What was read, and where the results are")
    record_reading(jobs, summaries, model, spec, out)
    strangers = [slide for slide in counts if slide not in ids and not (Path(place) / slide).is_dir()]
    if failed:
        show_table([{"slide": name, "reason": str(why)} for name, why in failed.items()], key="set-aside")
        refuse(failed, len(jobs))
    if strangers:
        raise IncompleteBatchError(
            f"{how.manual}: counts of {', '.join(strangers)} were compared with nothing, since no such slide was read:"
            f" correct slide_id; the slides are {', '.join(sorted(ids))}"
        )
    return [f"{out.rstrip('/')}/{job.slide.id}" if is_remote(out) else str(job.folder) for job in jobs]


def overview(summaries: Sequence[SlideSummary], model: ChosenModel, out: str) -> str:
    """Return a page, Markdown, with what people ask about a batch: model, slides, cells, and where the results are."""
    cells = cells_by_type(summaries)
    left_out = sum(bool(summary.reason) for summary in summaries)
    counts = ", ".join(f"{label} {count:,}" for label, count in cells.most_common() if count)
    rows = {
        "slides": f"{len(summaries) - left_out:,} read, {left_out:,} skipped",
        "cells": f"{cells.total():,}: {counts}" if counts else "none",
        "model": escape_markdown(str(model)),
        "results": f"`{shown(out)}/batch.html`" if is_remote(out) else link_to(Path(out) / "batch.html"),
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in rows.items())])


def tiles_at_most(
    entries: Sequence[SlideEntry], groups: Mapping[str, ScaleGroup], model: ModelSpec, spec: InferSpec, most: int
) -> bool:
    """Return whether the slides have at most that many tiles by their headers; remote ones are not opened."""
    if len(entries) > most or any(is_remote(entry.uri) for entry in entries):
        return False
    tiles = 0.0
    for entry in entries:
        try:
            with closing(open_slide(entry.uri, entry.mpp, entry.id, "not hashed", groups[entry.uri])) as slide:
                tiles += math.prod(side * slide.ref.mpp / model.mpp / spec.tile_px for side in slide.ref.shape)
        except InputError:
            continue  # reported when it is read
        if tiles > most:
            return False
    return True


def slides_to_read(slides: Iterable[SlideEntry], out: Path, retry_failed: bool) -> list[SlideEntry]:
    """Leave out the slides that need no second try, if only those that failed are asked for.

    Raises
    ------
    InputError
        If none is left.
    """
    kept = [slide for slide in slides if not retry_failed or failed_before(out / slide.id)]
    if not kept:
        raise InputError(f"{out}: no slide of this batch was skipped: run without --retry-failed to read all")
    return kept


def failed_before(folder: Path) -> bool:
    """Return whether a former run skipped a slide."""
    return (folder / "summary.json").exists() and bool(SlideSummary.read(folder).reason)


def read_slides(
    jobs: Sequence[SlideJob], found: Workers, view: BatchView, ended: Callable[[str], None]
) -> dict[str, Exception]:
    """Read slides, a few at a time where workers compute; give the errors of those that could not be read.

    Parameters
    ----------
    ended
        Called with the id of every slide that was read or skipped.

    Raises
    ------
    ServiceError
        If a service fails that the slides need: none of them is bad.
    """
    failed: dict[str, Exception] = {}

    def note(job: SlideJob, outcome: str | Exception) -> None:
        if isinstance(outcome, Exception):
            if isinstance(outcome, ServiceError) and not isinstance(outcome, TaskLostError):
                raise outcome
            failed[job.slide.id] = outcome
            reason = job.slide.without_place(str(outcome))
            record_skipped(job, reason)
            view.skip(job.slide.id, reason)
        ended(job.slide.id)

    if found.here:
        for job in jobs:
            note(job, read_slide.attempt(job, found, view))
        return failed
    pool = ThreadPoolExecutor(SLIDES_AT_ONCE)
    try:
        running = {pool.submit(copy_context().run, read_slide.attempt, job, found, view): job for job in jobs}
        for future in as_completed(running):
            note(running[future], future.result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return failed


def refuse(failed: dict[str, Exception], slides: int) -> NoReturn:
    """End a batch in which slides were skipped: with the slide's own error where there was only one slide."""
    if slides == 1:
        raise next(iter(failed.values()))
    reasons = "; ".join(f"{slide}: {why}" for slide, why in failed.items())
    raise IncompleteBatchError(f"{skipped(len(failed), slides, 'slide')}. {reasons}")
