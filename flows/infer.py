"""Slides to cells, differentials and reports."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectFuture, as_completed
from prefect.states import State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.settings import Settings
from sgcldff.batch import SlideSummary, require_own_folders, write_batch
from sgcldff.comparison import Counts, read_manual
from sgcldff.errors import IncompleteBatchError, InputError
from sgcldff.labels import LabelSpace
from sgcldff.model_folder import SPEC_FILE, read_spec
from sgcldff.pixels.choice import Plane
from sgcldff.reference import require_typicality
from sgcldff.registry import Registry, choose
from sgcldff.sequential import Goal
from sgcldff.slides import SlideEntry, find_slides
from tasks.compute import Compute, address_of, dashboard_of, processes
from tasks.live import BatchView
from tasks.slides import SlideJob, on_this_cluster, read_slide, set_aside
from tasks.stages import model_ids
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)

SLIDES_AT_ONCE = 2
"""Slides under way: while one is opened or written, the workers read the other."""


@dataclass(frozen=True)
class Batch:
    """How a batch of slides is counted."""

    mpp: float | None = None
    """um/px of the slides that do not say."""
    until: str | None = None
    """Read only a random sample of each slide: until the interval of a type is as narrow as asked, "blast:0.02"."""
    manual: str | None = None
    """Table of manual counts to compare with: slide_id, label, count."""
    retry_failed: bool = False
    """Read only slides that a former run set aside."""
    page: int | None = None
    """Page, series or time of the slides for which none is named, counted from 1."""
    z: int | None = None
    """Focal plane of the slides for which none is named, counted from 1."""


@dataclass(frozen=True)
class Reading:
    """With what slides are read, and where results go."""

    model: str | None
    """`models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released` or a folder; None for the champion, or, where there is
    none, the released model."""
    out: str
    """Folder for the results, one folder a slide, and a table and a page of the batch."""
    workspace: str
    """Folder of the registry."""
    batch: Batch
    compute: Compute
    settings: Settings


@flow(name="infer", flow_run_name="infer", task_runner=ThreadPoolTaskRunner(max_workers=SLIDES_AT_ONCE))
def infer(
    slides: list[str],
    out: str,
    workspace: str,
    model: str | None = None,
    batch: Batch | None = None,
    compute: Compute | None = None,
    settings: Settings | None = None,
) -> list[str]:
    """Read slides with a model; returns the folders of their results.

    The model's version is fixed when the batch begins. A slide that cannot be read is set aside and the others go on;
    a slide that was interrupted goes on at its last shard.

    Args:
        slides: Files, folders, patterns, OME-Zarr folders, tables with a column `slide`, or URLs.
        out: Folder for the results, one folder a slide, and a table and a page of the batch.
        workspace: Folder of the registry.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released` or a folder; where left out, the champion, or,
            where there is none, the released model.
        batch: How the slides are counted.
        compute: Dask cluster, or worker processes on this machine.
        settings: Settings by stage; defaults where left out.

    Raises
    ------
    InputError
        If no slide is found, none of them could be read, or `out` holds results of others of the same name.
    IncompleteBatchError
        If some slides were set aside; the message names them with their reasons.
    """
    reading = Reading(model, out, workspace, batch or Batch(), compute or Compute(), settings or Settings())
    found = find_slides(slides, reading.batch.mpp, Plane(reading.batch.page, reading.batch.z))
    return read_batch(chosen(found, Path(out), reading.batch.retry_failed), reading)


def read_batch(entries: Sequence[SlideEntry], reading: Reading) -> list[str]:
    """Read slides, within a flow; gives the folders of their results.

    Raises
    ------
    InputError, IncompleteBatchError
        As `infer`.
    """
    out, how, spec = reading.out, reading.batch, reading.settings.infer
    require_own_folders(entries, out)
    model = choose(Registry(Workspace(reading.workspace).tracking_uri), reading.model)
    logger.info("slides are read with %s", model, extra=model_ids(model.model))
    require_typicality(model.folder, spec.min_typicality)
    labels = read_spec(model.folder / SPEC_FILE).labels
    goal, counts = how.until and Goal.parse(how.until, labels.classes), manual_counts(how.manual, labels)
    with processes(reading.compute) as client, BatchView(len(entries), dashboard_of(client), timed=True) as view:
        used = on_this_cluster(spec, client)
        jobs = [
            SlideJob(slide, str(model.folder), model.model, out, used, goal or None, counts.get(slide.id))
            for slide in entries
        ]
        failed = read_slides(jobs, address_of(client), view)
    write_batch(out, [SlideSummary.read(job.folder) for job in jobs])
    if failed:
        create_table_artifact([{"slide": name, "reason": str(why)} for name, why in failed.items()], key="set-aside")
        refuse(failed, len(jobs))
    return [str(job.folder) for job in jobs]


def chosen(slides: Iterable[SlideEntry], out: Path, retry_failed: bool) -> list[SlideEntry]:
    """Leave out the slides that need no second try, if only those that failed are asked for.

    Raises
    ------
    InputError
        If none is left.
    """
    kept = [slide for slide in slides if not retry_failed or failed_before(out / slide.id)]
    if not kept:
        raise InputError(f"{out}: no slide of this batch was set aside: run without --retry-failed to read all")
    return kept


def failed_before(folder: Path) -> bool:
    """Tell whether a former run set a slide aside."""
    return (folder / "summary.json").exists() and bool(SlideSummary.read(folder).reason)


def manual_counts(table: str | None, labels: LabelSpace) -> dict[str, Counts]:
    """Read manual counts, if there are any, by slide."""
    return {} if table is None else read_manual(table, labels.classes)


def read_slides(jobs: list[SlideJob], address: str | None, view: BatchView) -> dict[str, BaseException]:
    """Read slides, a few at a time where a cluster computes them; give the errors of those that were set aside."""
    failed = {}
    if address is None:
        outcomes = ((job, read_slide(job, None, view, return_state=True)) for job in jobs)
    else:
        running = {read_slide.submit(job, address, view): job for job in jobs}
        outcomes = ((running[future], ended(future)) for future in as_completed(list(running)))
    for job, state in outcomes:
        told = state.result(raise_on_failure=False)
        if isinstance(told, BaseException):
            failed[job.slide.id] = told
            set_aside(job, str(told))
            view.set_aside(job.slide.id, str(told))
    return failed


def ended(future: PrefectFuture[str]) -> State[str]:
    """Give the state in which a task has ended; without waiting, the server's may be an older one."""
    future.wait()
    return future.state


def refuse(failed: dict[str, BaseException], slides: int) -> NoReturn:
    """End a batch in which slides were set aside: with the slide's own error where there was only one slide."""
    if slides == 1:
        raise next(iter(failed.values()))
    reasons = "; ".join(f"{slide}: {why}" for slide, why in failed.items())
    raise IncompleteBatchError(f"{len(failed)} of {slides} slides were set aside, the others are done. {reasons}")
