"""Any model on any data set that it never saw."""

from pathlib import Path

from prefect import flow

from flows.prepare import resolve
from flows.settings import Settings
from sgcldff.catalog import Catalog
from sgcldff.datasets import Source
from sgcldff.registry import Registry
from sgcldff.specs import digest
from tasks.modelling import EvalJob, evaluate_model
from tasks.preparing import ingest_images, land
from tasks.workspace import Workspace


@flow(name="evaluate", flow_run_name="evaluate")
def evaluate(sources: list[Source], model: str, workspace: str, settings: Settings | None = None) -> str:
    """Score a model on all images of the sources; returns the folder of the report.

    The images are checked by ingest in a catalog of their own, so the workspace's catalog and splits stay as they are.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or a folder.
        workspace: Folder of the registry and the reports.
        settings: Settings by stage; defaults where left out.
    """
    chosen, place = settings or Settings(), Workspace(workspace)
    found = resolve(land(sources, place))
    _, folder = Registry(place.tracking_uri).resolve(model)
    apart = Workspace(str(Path(place.root) / "evaluated" / digest([str(source) for source in found])))
    catalog = Catalog.open(ingest_images(found, apart, chosen.ingest))
    return evaluate_model(EvalJob(str(folder), catalog.samples, chosen.evaluate), place)
