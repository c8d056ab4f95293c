"""Tasks that read slides: one task per slide, whose shards run on Dask."""

import logging
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from sgcldff.core.errors import SgcldffError, TaskLostError
from sgcldff.core.logs import current_log_context, log_context, start_json_log
from sgcldff.core.settings import Engine, InferSpec, Precision
from sgcldff.inference import (
    SlideTask,
    Tally,
    serially,
)
from sgcldff.models.runtimes import Runtime, caution, load_runtime, resolve
from sgcldff.results.batch import SlideSummary, known_sha256, write_origin, write_summary
from sgcldff.results.folder import REPORT, held
from sgcldff.results.slide import SlideJob, read_slide_job
from sgcldff.slides import SlideEntry
from tasks.artifacts import link_to, show_markdown, show_table
from tasks.compute import Workers
from tasks.live_view import BatchView
from tasks.policy import SLIDES
from tasks.stages import model_ids, stage

logger = logging.getLogger(__name__)


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


@stage("read-slide", SLIDES, slide_ids, lambda job, *_: job.slide.id)
def read_slide(job: SlideJob, workers: Workers, view: BatchView) -> str:
    """Read a slide, its shards here or on the workers; return the folder of its results."""
    with private(job.slide):
        run, slide = partial(run_shards, workers, job), job.slide.id
        result = read_slide_job(job, run, partial(view.slide, slide), partial(view.announce, slide))
    shares = [{"type": share.label, "count": share.count, "share": share.share} for share in result.differential.shares]
    show_table(shares, key="differential", description=job.slide.id)
    show_markdown(f"Report: {link_to(job.folder / REPORT)}", key="report", description=job.slide.id)
    return str(job.folder)


def run_shards(workers: Workers, job: SlideJob, shards: Sequence[SlideTask]) -> Iterator[tuple[SlideTask, Any]]:
    """Run shards here, or on the workers and their GPUs, each of which loads the model once.

    Raises
    ------
    TaskLostError
        At the first shard that took several workers down: others would take more.
    """
    if not shards:
        return
    if workers.here:
        yield from serially(runtime_here(job.model, job.spec.engine, job.spec.precision))(shards)
        return
    from sgcldff.cluster import connect, gpu_share, load_once, map_bounded

    name = f"{job.reference.digest}-{job.spec.engine}-{job.spec.precision}"
    with connect(workers.scheduler()) as client:
        load_once(client, name, partial(load_runtime, job.model, job.spec.engine, job.spec.precision))
        work = partial(run_shard, name, current_log_context())
        for shard, outcome in map_bounded(client, work, shards, resources=gpu_share(client)):
            if isinstance(outcome, TaskLostError):
                raise outcome
            yield shard, outcome


@lru_cache(maxsize=1)
def runtime_here(model: str, engine: Engine, precision: Precision) -> Runtime:
    """Load a model once for all slides that this process reads."""
    return load_runtime(model, engine, precision)


def run_shard(name: str, ids: Mapping[str, str], shard: SlideTask) -> Tally:
    """Run a shard with the model that its worker has loaded; the worker's log says for which slide and run."""
    from sgcldff.cluster import loaded

    start_json_log()
    began = time.monotonic()
    with log_context(ids):
        tally = shard(loaded(name))
        fields = {"step": str(shard.step), "shard": shard.index, "seconds": round(time.monotonic() - began, 3)}
        logger.info("shard %d: %s done", shard.index, shard.step, extra=fields)
    return tally


@contextmanager
def private(slide: SlideEntry) -> Iterator[None]:
    """Remove the folder of the slide from errors, which go to reports and to Prefect's records.

    The causes of an error name it too, and are dropped.
    """
    try:
        yield
    except SgcldffError as error:
        error.args = (slide.without_place(str(error)),)
        error.__cause__ = None
        raise


def record_skipped(job: SlideJob, reason: str) -> None:
    """Record in a slide's folder why it was skipped."""
    with held(job.folder):
        if not known_sha256(job.folder, job.slide.uri):
            write_origin(job.folder, job.slide.uri)
        write_summary(job.folder, SlideSummary(job.slide.id, job.slide.shown_name, reason, model=job.reference))
