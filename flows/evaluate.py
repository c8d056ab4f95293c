"""Any model on any data set that it never saw."""

import logging
from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from flows.prepare import resolve
from flows.settings import Settings
from sgcldff.core.settings import digest
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation import SetAside, UntypedLabel
from sgcldff.evaluation.scorable import scorable
from sgcldff.models.checkpoint import open_spec
from sgcldff.registry import choose
from tasks.data import ingest_images, land, rejected
from tasks.evaluation import EvalJob, evaluate_model
from tasks.stages import model_ids
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """What came of an evaluation."""

    folder: str
    """Of the report."""
    unusable: tuple[SetAside, ...]
    """Images that cannot be read, or have a label that the model does not know and no mask.

    Those that it learned from are named in the report alone.
    """
    untyped: tuple[UntypedLabel, ...]
    """Labels that the model does not know, of images whose outlines are scored all the same."""


@flow(name="evaluate", flow_run_name="evaluate")
def evaluate(
    sources: list[Source], workspace: str, model: str | None = None, settings: Settings | None = None
) -> Evaluated:
    """Score a model on all images of the sources; those that cannot be scored are set aside.

    Of images with a label that the model does not know, the outlines are scored where they have a mask.

    The images are checked by ingest in a catalog of their own, so the workspace's catalog and splits stay as they are.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        workspace: Folder of the registry and the reports.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released` or a folder; where left out, the champion, or,
            where there is none, the released model.
        settings: Settings by stage; defaults where left out.
    """
    chosen, place = settings or Settings(), Workspace(workspace)
    found = resolve(land(sources, place))
    scored = choose(place.tracking_uri, model)
    logger.info("images are scored with %s", scored, extra=model_ids(scored.model))
    apart = Workspace(str(Path(place.root) / "evaluated" / digest([str(source) for source in found])))
    catalog = Catalog.open(ingest_images(found, apart, chosen.ingest))
    asked = scorable(open_spec(scored.folder).labels, catalog.samples)
    unusable = (*rejected(catalog), *asked.set_aside)
    job = EvalJob(str(scored.folder), asked.samples, chosen.evaluate, unusable, asked.untyped)
    return Evaluated(evaluate_model(job, place), unusable, asked.untyped)
