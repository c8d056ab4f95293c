"""Tasks that read slides: one task a slide, its shards spread over Dask inside."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact

from sgcldff.cluster import Client, connect, load_once, loaded, map_bounded, threads
from sgcldff.differential import differential, write_differential
from sgcldff.inference import Plan, Runner, ShardTask, plan_slide, read_cells, run_plan, serially
from sgcldff.model import Model, load_model
from sgcldff.outputs import write_cells, write_geojson, write_labels_ngff
from sgcldff.records import ModelRef
from sgcldff.report import write_report
from sgcldff.slides import ScaledSlide, SlideSource, open_slide
from sgcldff.specs import InferSpec
from tasks.policy import SLIDES, STAGE
from tasks.progress import bar

OVERVIEW_PX = 2048
"""Longer side of the overview picture that lies under the labels."""


@dataclass(frozen=True)
class SlideJob:
    """A slide to read, with what decides the result."""

    slide: str
    mpp: float | None
    """um/px, where the file does not say."""
    model: str
    """Folder of the model."""
    reference: ModelRef
    out: str
    """Results go to a folder below, named after the slide."""
    spec: InferSpec


@task(name="read-slide", tags=SLIDES, **STAGE)
def read_slide(job: SlideJob, address: str | None = None) -> str:
    """Find, outline and type the cells of a slide and write its results; returns their folder.

    Parameters
    ----------
    address
        Dask scheduler that computes the shards; None computes them here.
    """
    with closing(open_slide(job.slide, job.mpp)) as slide:
        folder = Path(job.out) / slide.ref.id
        model = load_model(job.model)
        plan = plan_slide(slide, model, job.reference, job.spec, folder)
        with runner(address, job.model, model) as run, bar(slide.ref.id) as progress:
            run_plan(plan, run, progress)
        write_results(plan, slide)
    create_link_artifact((folder / "report.html").resolve().as_uri(), key="report", description=slide.ref.id)
    return str(folder)


@contextmanager
def runner(address: str | None, folder: str, model: Model) -> Iterator[Runner]:
    """Give what runs shards: this process, or the workers of a Dask cluster, each of which loads the model once."""
    if address is None:
        yield serially(model)
        return
    with connect(address) as client:
        load_once(client, model.digest, partial(load_model, folder))
        yield partial(on_cluster, client, model.digest)


def on_cluster(client: Client, digest: str, shards: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, Any]]:
    """Run shards on a cluster, a few more at a time than it has threads."""
    return map_bounded(client, partial(run_shard, digest), shards, 2 * threads(client))


def run_shard(digest: str, shard: ShardTask) -> None:
    """Run a shard with the model that its worker has loaded."""
    shard(loaded(digest))


def write_results(plan: Plan, slide: SlideSource) -> None:
    """Write cells, outlines, labels, differential and report of a slide whose shards are all committed."""
    folder, classes, scaled = Path(plan.folder), plan.model.labels.classes, ScaledSlide(slide, plan.model.mpp)
    cells = list(read_cells(plan))
    write_cells(folder / "cells.parquet", cells, classes, slide.ref.mpp, plan.lineage)
    write_geojson(folder / "cells.geojson", cells, classes)
    write_labels_ngff(plan.labels, plan.model.mpp, *scaled.overview(OVERVIEW_PX))
    found = differential((cell.label for cell in cells), classes)
    write_differential(folder / "differential.json", found, slide.ref.id, plan.lineage)
    write_report(folder, scaled, cells, found, plan.lineage)
    shares = [{"type": share.label, "count": share.count, "share": share.share} for share in found.shares]
    create_table_artifact(shares, key="differential", description=slide.ref.id)
