"""Images to catalog and priors."""

from prefect import flow

from flows.settings import Settings
from sgcldff.data.adapters import Source
from tasks.data import Prepared, ingest_images, land, precompute_priors
from tasks.workspace import Workspace


@flow(name="prepare", flow_run_name="prepare")
def prepare(sources: list[Source], workspace: str, settings: Settings | None = None) -> Prepared:
    """Bring data sets into the catalog and compute the priors that are missing.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        workspace: Folder of the catalog, priors, models and runs.
        settings: Settings by stage; defaults where left out.
    """
    chosen, place = settings or Settings(), Workspace(workspace)
    catalog = ingest_images(resolve(land(sources, place)), place, chosen.ingest)
    return precompute_priors(catalog, place, chosen.prior)


def resolve(sources: list[Source]) -> list[Source]:
    """Put the data sets that lie below its folder in the place of each `auto` source."""
    return [found for source in sources for found in source.resolved()]
