"""Scores of any model on data it was not trained on."""

import logging
from dataclasses import dataclass
from pathlib import Path

from flows.prepare import resolved_sources
from flows.recorded import recorded_flow
from flows.settings import Settings
from sgcldff.core.settings import digest
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation import SkippedImage, UnknownLabel
from sgcldff.evaluation.scorable import scorable
from sgcldff.models.checkpoint import open_spec
from sgcldff.registry import choose_model
from tasks.data import ingest_images, land, rejected
from tasks.evaluation import EvalJob, evaluate_model
from tasks.stages import model_ids
from tasks.tracking import record_evaluation
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation."""

    folder: str
    """Folder of the report."""
    skipped: tuple[SkippedImage, ...]
    """Images that are unreadable, or that have no mask and a label unknown to the model.

    Images that the model was trained on are listed in the report only.
    """
    unknown_labels: tuple[UnknownLabel, ...]
    """Labels unknown to the model, of images that are scored by their outlines."""


@recorded_flow("evaluate", "sources")
def evaluate(
    sources: list[Source], workspace: str, model: str | None = None, settings: Settings | None = None
) -> Evaluated:
    """Score a model on all images of the sources; images that cannot be scored are skipped.

    Images whose label is unknown to the model are scored by their outlines if they have a mask.

    The images are ingested into a catalog of their own, so that the workspace's catalog and splits do not change.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        workspace: Folder of the registry and the reports.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released` or a folder; by default the champion, or the
            released model if there is no champion.
        settings: Settings by stage; by default the built-in ones.
    """
    spec, root = settings or Settings(), Workspace(workspace)
    data_sets = resolved_sources(land(sources, root))
    chosen = choose_model(root.tracking_uri, model)
    logger.info("images are scored with %s", chosen, extra=model_ids(chosen.model))
    own_root = Workspace(str(Path(root.root) / "evaluated" / digest([str(source) for source in data_sets])))
    catalog = Catalog.open(ingest_images(data_sets, own_root, spec.ingest))
    selected = scorable(open_spec(chosen.folder).labels, catalog.samples)
    skipped = (*rejected(catalog), *selected.skipped)
    job = EvalJob(str(chosen.folder), selected.samples, spec.evaluate, skipped, selected.unknown_labels)
    folder = evaluate_model(job, root)
    record_evaluation(folder, root.tracking_uri, chosen.model)
    return Evaluated(folder, skipped, selected.unknown_labels)
