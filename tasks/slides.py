"""Tasks that read slides: one task a slide, its shards spread over Dask inside."""

import logging
import operator
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.errors import SgcldffError, TaskLostError
from sgcldff.core.logs import current_log_context, log_context, start_json_log
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import Engine, InferSpec, Precision, digest
from sgcldff.counting.agreement import Agreement, Counts, compare, write_agreements
from sgcldff.counting.differential import Differential, from_counts, write_differential
from sgcldff.counting.stopping import Goal
from sgcldff.inference import (
    Plan,
    Runner,
    ShardTask,
    Step,
    Tally,
    committed,
    plan_slide,
    read_cells,
    run_plan,
    run_sample,
    sampled,
    serially,
    slide_areas,
)
from sgcldff.inference.gate import Area
from sgcldff.inference.outputs import CellRow, write_cells, write_geojson, write_labels_ngff
from sgcldff.models.checkpoint import SPEC_FILE, read_spec
from sgcldff.models.reference import reference_digest
from sgcldff.models.runtimes import Runtime, caution, load_runtime, resolve
from sgcldff.results.batch import SlideSummary, known_sha256, write_origin, write_summary
from sgcldff.results.review.apply import forget_reviews
from sgcldff.results.slide_page import write_report
from sgcldff.slides import ScaledSlide, SlideEntry, SlideSource, open_slide
from tasks.artifacts import show_link, show_table
from tasks.compute import Workers
from tasks.live_view import BatchView
from tasks.policy import SLIDES
from tasks.stages import model_ids, stage
from tasks.workspace import write_json

if TYPE_CHECKING:
    from sgcldff.cluster import Client

logger = logging.getLogger(__name__)

OVERVIEW_PX = 2048
"""Longer side of the overview picture that lies under the labels."""


@dataclass(frozen=True)
class SlideJob:
    """A slide to read, with what decides the result."""

    slide: SlideEntry
    model: str
    """Folder of the model."""
    reference: ModelRef
    out: str
    """Results go to a folder below, named after the slide."""
    spec: InferSpec
    """With the engine and the precision that are really used."""
    goal: Goal | None = None
    """Read only a sample that is large enough for this."""
    manual: Counts | None = None
    """A manual count of the same smear."""

    @property
    def folder(self) -> Path:
        """Results of the slide."""
        return Path(self.out) / self.slide.id


def on_these_workers(spec: InferSpec, workers: Workers) -> InferSpec:
    """Replace what is left to the machine by what the workers really use, and warn where that is needlessly slow.

    Workers that this machine starts use what this process would.

    Raises
    ------
    InputError
        If the workers lack what is asked for.
    """

    def there(ask: Callable[[], Any]) -> Any:
        if not workers.elsewhere:
            return ask()
        from sgcldff.cluster import gpu_share, map_bounded

        client = workers.client()
        ((_, answer),) = map_bounded(client, operator.call, [ask], resources=gpu_share(client))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    engine, precision = there(partial(resolve, spec.engine, spec.precision))
    if slow := there(partial(caution, engine, precision)):
        logger.warning(slow)
    return replace(spec, engine=engine, precision=precision)


def slide_ids(job: SlideJob, workers: Workers, view: BatchView) -> dict[str, str]:
    """Name what the events of a slide are about."""
    return {"slide_id": job.slide.id, **model_ids(job.reference)}


@stage("read-slide", SLIDES, slide_ids)
def read_slide(job: SlideJob, workers: Workers, view: BatchView) -> str:
    """Find, outline and type the cells of a slide and write its results; returns their folder."""
    began = time.monotonic()
    known = known_sha256(job.folder, job.slide.uri)
    with private(job.slide), closing(open_slide(job.slide.uri, job.slide.mpp, job.slide.id, known)) as slide:
        model, reference = read_spec(Path(job.model) / SPEC_FILE), reference_digest(job.model)
        plan = plan_slide(slide, model, job.reference, job.spec, job.folder, reference)
        write_origin(job.folder, job.slide.uri, slide.ref.sha256)
        done = committed(plan) if job.goal is None else sampled(plan)
        with view.slide(job.slide.id, len(plan.grid), done) as progress:
            results = read_shards(plan, partial(run_shards, workers, job), progress, job.goal)
            if not written(plan, job).exists():
                write_results(results, slide, job, time.monotonic() - began)
                write_json(written(plan, job), asdict(plan.lineage))
    show_link((job.folder / "report.html").resolve().as_uri(), key="report", description=job.slide.id)
    return str(job.folder)


def written(plan: Plan, job: SlideJob) -> Path:
    """Name the marker of results that need not be written again."""
    asked = (job.goal and asdict(job.goal), job.manual and dict(job.manual), plan.slide.id)
    key = digest((plan.type_key, asdict(plan.lineage), asked))
    return plan.shards / plan.type_key / f"written-{key}.json"


def run_shards(workers: Workers, job: SlideJob, shards: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, Any]]:
    """Run shards here, or on the workers, each of which loads the model once."""
    if not shards:
        return
    if workers.here:
        yield from serially(runtime_here(job.model, job.spec.engine, job.spec.precision))(shards)
        return
    from sgcldff.cluster import connect, load_once

    name = f"{job.reference.digest}-{job.spec.engine}-{job.spec.precision}"
    with connect(workers.address()) as client:
        load_once(client, name, partial(load_runtime, job.model, job.spec.engine, job.spec.precision))
        yield from on_cluster(client, name, shards)


@lru_cache(maxsize=1)
def runtime_here(model: str, engine: Engine, precision: Precision) -> Runtime:
    """Load a model once for all slides that this process reads."""
    return load_runtime(model, engine, precision)


def on_cluster(client: "Client", name: str, shards: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, Any]]:
    """Run shards on a cluster, on its GPUs where it has any.

    Raises
    ------
    TaskLostError
        At the first shard that took several workers down: others would take more.
    """
    from sgcldff.cluster import gpu_share, map_bounded

    work = partial(run_shard, name, current_log_context())
    for shard, outcome in map_bounded(client, work, shards, resources=gpu_share(client)):
        if isinstance(outcome, TaskLostError):
            raise outcome
        yield shard, outcome


def run_shard(name: str, ids: Mapping[str, str], shard: ShardTask) -> Tally:
    """Run a shard with the model that its worker has loaded; the worker's log says for which slide and run."""
    from sgcldff.cluster import loaded

    start_json_log()
    began = time.monotonic()
    with log_context(ids):
        tally = shard(loaded(name))
        told = {"step": str(shard.step), "shard": shard.index, "seconds": round(time.monotonic() - began, 3)}
        logger.info("shard %d: %s done", shard.index, shard.step, extra=told)
    return tally


@dataclass(frozen=True)
class Results:
    """What was read of a slide."""

    plan: Plan
    shards: list[int] | None
    """Those that were read; None: all."""
    tally: Tally
    areas: Mapping[str, float]
    """Area of the smear -> its part of the slide; empty where only a sample was read."""

    def cells(self) -> Iterator[CellRow]:
        """Give all cells, read anew from what is committed."""
        return read_cells(self.plan, Step.TYPE if self.shards is None else Step.SAMPLE, self.shards)

    def differential(self, goal: Goal | None) -> Differential:
        """Count the cells that are to be counted; with intervals that hold although a goal ended the count."""
        found = count_cells(self.cells(), self.plan.model.labels.classes)
        return found if goal is None else goal.settled(found)


def count_cells(cells: Iterable[CellRow], classes: Sequence[str]) -> Differential:
    """Count cells by type; those outside the usable area only as such."""
    counts = Counter(cell.label if cell.counted else None for cell in cells)
    excluded = counts.pop(None, 0)
    return from_counts({label: number for label, number in counts.items() if label}, classes, excluded=excluded)


def read_shards(plan: Plan, run: Runner, progress: Callable[[Tally], None], goal: Goal | None) -> Results:
    """Read a slide as a whole, or as many of its shards, in random order, as a goal asks for."""
    if goal is None:
        run_plan(plan, run, progress)
        return Results(plan, None, committed(plan), shares_of(slide_areas(plan)))
    classes = plan.model.labels.classes
    shards = run_sample(plan, run, lambda cells: goal.reached(count_cells(cells, classes)), progress)
    return Results(plan, shards, sampled(plan), {})


def shares_of(areas: NDArray[np.uint8]) -> dict[str, float]:
    """Give the part of each kind of area."""
    return {area.name.lower(): float((areas == area).mean()) for area in Area}


def write_results(results: Results, slide: SlideSource, job: SlideJob, seconds: float) -> None:
    """Write cells, outlines, labels, differential, report and summary of what was read; memory stays bounded."""
    plan, folder, found = results.plan, job.folder, results.differential(job.goal)
    classes, scaled = plan.model.labels.classes, ScaledSlide(slide, plan.model.mpp)
    write_cells(folder / "cells.parquet", results.cells(), classes, slide.ref.mpp, plan.lineage)
    write_geojson(folder / "cells.geojson", results.cells(), classes)
    write_labels_ngff(plan.labels, plan.model.mpp, *scaled.overview(OVERVIEW_PX))
    write_differential(folder / "differential.json", found, slide.ref.id, plan.lineage, slide.ref.orientation)
    agreements = compared(found, job, plan)
    forget_reviews(folder)
    write_report(folder, scaled, results.cells(), found, plan.lineage, agreements)
    tally = results.tally
    told = SlideSummary(slide.ref.id, job.slide.shown_name, areas=results.areas, tiles=tally.tiles)
    write_summary(folder, replace(told, skipped=tally.skipped, seconds=seconds, model=job.reference))
    shares = [{"type": share.label, "count": share.count, "share": share.share} for share in found.shares]
    show_table(shares, key="differential", description=slide.ref.id)


def compared(found: Differential, job: SlideJob, plan: Plan) -> tuple[Agreement, ...]:
    """Compare with the manual count and write how they agree, or remove what an earlier run wrote."""
    place = job.folder / "manual.json"
    if job.manual is None:
        place.unlink(missing_ok=True)
        return ()
    agreements = compare(found, job.manual)
    write_agreements(place, agreements, job.slide.id, plan.lineage)
    return agreements


@contextmanager
def private(slide: SlideEntry) -> Iterator[None]:
    """Leave out of errors, which go to reports and to Prefect's records, in which folder the slide lies.

    The causes of an error name it too, and are dropped.
    """
    try:
        yield
    except SgcldffError as error:
        error.args = (slide.without_place(str(error)),)
        error.__cause__ = None
        raise


def set_aside(job: SlideJob, reason: str) -> None:
    """Note in a slide's folder why it was set aside."""
    if not known_sha256(job.folder, job.slide.uri):
        write_origin(job.folder, job.slide.uri)
    write_summary(job.folder, SlideSummary(job.slide.id, job.slide.shown_name, reason, model=job.reference))
