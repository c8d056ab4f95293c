"""Images to a catalog and their saliency priors."""

from flows.recorded import recorded_flow
from flows.settings import Settings
from sgcldff.data.adapters import Source
from tasks.data import Prepared, ingest_images, land, precompute_priors
from tasks.workspace import Workspace


@recorded_flow("prepare", "sources")
def prepare(sources: list[Source], workspace: str, settings: Settings | None = None) -> Prepared:
    """Ingest data sets into the catalog and compute missing saliency priors.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        workspace: Folder of the catalog, priors, models and runs.
        settings: Settings by stage; by default the built-in ones.
    """
    spec, root = settings or Settings(), Workspace(workspace)
    catalog = ingest_images(resolved_sources(land(sources, root)), root, spec.ingest)
    return precompute_priors(catalog, root, spec.prior)


def resolved_sources(sources: list[Source]) -> list[Source]:
    """Replace each `auto` source by the data sets found below its folder."""
    return [data_set for source in sources for data_set in source.resolved()]
