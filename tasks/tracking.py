"""Runs in MLflow of finished evaluations and readings, and how runs and versions are named.

The work is done when its run is recorded: where that fails, a warning says so, and the results stay.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path, PurePath

from sgcldff.core.errors import SgcldffError
from sgcldff.core.locations import Address, is_remote, shown
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import InferSpec, digest, flatten
from sgcldff.core.wording import counted, first_few
from sgcldff.registry import ChosenModel
from sgcldff.results.batch import SlideSummary, cells_by_type, known_sha256
from sgcldff.results.slide import SlideJob

logger = logging.getLogger(__name__)

READINGS = "sgcldff-slides"
"""MLflow experiment of the readings; trainings and evaluations are in that of the models."""
EVALUATION_TAG, READING_TAG = "sgcldff.evaluation", "sgcldff.reading"
"""Tags with the content key of an evaluation and of a reading: what is repeated leaves no second run."""


def dated(title: str) -> str:
    """Add today's date (UTC)."""
    return f"{title} {datetime.now(UTC):%Y-%m-%d}"


@contextmanager
def optional(work: str) -> Iterator[None]:
    """Turn a failure to record finished work into a warning."""
    try:
        yield
    except SgcldffError as error:
        logger.warning("%s is finished, but not recorded in MLflow: %s", work, error)


def record_evaluation(folder: str, tracking_uri: str, model: ModelRef | None = None) -> None:
    """Record an evaluation as a run, if MLflow is installed, unless a run has it already: settings, scores and report.

    Parameters
    ----------
    folder
        Of the report.
    model
        The model if it may not be registered.
    """
    if find_spec("mlflow") is None:
        return
    from sgcldff.evaluation import EvalReport
    from sgcldff.registry import EVALUATION, Registry

    key, report = Path(folder).name, EvalReport.open(folder)
    with optional("the evaluation"):
        registry = Registry(tracking_uri)
        if registry.runs.finished(EVALUATION_TAG, key):
            return
        version = registry.with_weights(report.model)
        tags = {EVALUATION_TAG: key, "sgcldff.results": folder}
        if model := version.ref if version else model:
            tags |= model_tags(model)
        name = dated(f"evaluate {first_few([one.source for one in report.sources])}")
        model_id = version.model_id if version else None
        with registry.runs.run(None, name, tags) as run:
            registry.runs.log(run, flatten({"evaluate": asdict(report.spec)}), {"images": report.pooled.images})
            registry.log_scores(run, report, model_id)
            registry.runs.attach(run, folder, EVALUATION)


def record_reading(
    jobs: Sequence[SlideJob], summaries: Sequence[SlideSummary], model: ChosenModel, spec: InferSpec, out: str
) -> None:
    """Record a reading as a run, if MLflow is installed and has a store: settings, counts, times, model.

    Importing MLflow takes seconds, so this comes last, and creates no store. Names of slides, and results, stay here.
    """
    address = Address.parse(model.registry)
    if find_spec("mlflow") is None or (address.database is not None and not address.database.is_file()):
        return
    from sgcldff.registry import DataSet, Registry, Runs

    slides = [
        (job.slide.id, known_sha256(job.folder, job.slide.uri) or job.slide.uri, bool(summary.reason))
        for job, summary in zip(jobs, summaries, strict=True)
    ]
    place = shown(out) if is_remote(out) else str(Path(out).resolve())
    batch = PurePath(place).name
    content, settings = digest((slides,)), flatten({"infer": asdict(spec)})
    key = digest((content, model.model.digest, settings, place))
    with optional("the reading"):
        runs, registry = Runs(model.registry, READINGS), Registry(model.registry)
        if runs.finished(READING_TAG, key):
            return
        version = registry.with_weights(model.model.digest)
        tags = {READING_TAG: key, "sgcldff.slides": content, "sgcldff.results": place, **model_tags(model.model)}
        name = dated(f"{batch}: {counted(len(slides), 'slide')}")
        model_id = version.model_id if version else None
        with runs.run(None, name, tags) as run:
            runs.add_inputs(run, "reading", DataSet(batch, content, place), model_id)
            runs.log(run, settings, figures(summaries))


def model_tags(model: ModelRef) -> dict[str, str]:
    """Return tags that name a model."""
    return {"sgcldff.model": f"{model.name} {model.version}", "sgcldff.model_digest": model.digest}


def figures(summaries: Sequence[SlideSummary]) -> dict[str, float]:
    """Return how many slides, tiles and cells were read, cells by type, and the time by stage, s."""
    cells, seconds = cells_by_type(summaries), Counter[str]()
    for summary in summaries:
        seconds.update(summary.stages)
    return {
        "slides": len(summaries),
        "slides_skipped": sum(bool(summary.reason) for summary in summaries),
        "tiles": sum(summary.tiles for summary in summaries),
        "tiles_skipped": sum(summary.skipped for summary in summaries),
        "cells": cells.total(),
        "seconds": sum(summary.seconds for summary in summaries),
        **{f"cells.{label}": count for label, count in cells.items()},
        **{f"seconds.{stage}": spent for stage, spent in seconds.items()},
    }
