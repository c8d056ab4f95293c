"""Tasks that ingest images into the catalog and compute their saliency priors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.core.locations import named
from sgcldff.core.records import ArrayRef, samples_to_table
from sgcldff.core.settings import IngestSpec, PriorSpec
from sgcldff.core.wording import first_few
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import QUARANTINE, Catalog, ingest
from sgcldff.data.mirror import mirrored
from sgcldff.evaluation import SkippedImage
from sgcldff.saliency.priors.precompute import compute_priors
from sgcldff.saliency.store import PriorStore
from tasks.artifacts import show_image, show_table
from tasks.compute import Compute, workers
from tasks.policy import DATA
from tasks.progress import bar
from tasks.stages import stage
from tasks.workspace import Workspace

MANY = 2000
"""Number of images without priors from which on a local Dask cluster is started."""
PICTURED = 12
"""Largest number of images in the picture of the priors."""


@dataclass(frozen=True)
class Prepared:
    """A catalog with the priors of its images."""

    catalog: str
    """Folder of the catalog."""
    digest: str
    """Digest of the catalog's content."""
    images: int
    skipped: int
    """Inputs that could not be used; the reasons are in `quarantine.parquet`."""
    priors: ArrayRef

    @property
    def picture(self) -> Path:
        """Some images beside their priors, in the store's folder."""
        return Path(self.priors.uri) / f"gallery-{self.priors.digest}.png"


@stage("land", DATA, subject=lambda sources, _: named([source.folder for source in sources]))
def land(sources: Sequence[Source], workspace: Workspace) -> list[Source]:
    """Mirror remote sources, and replace them by their mirrors."""
    return [mirrored(source, workspace.landing) for source in sources]


@stage("ingest", DATA, subject=lambda sources, *_: named([source.folder for source in sources]))
def ingest_images(sources: Sequence[Source], workspace: Workspace, spec: IngestSpec) -> str:
    """Ingest data sets into the workspace's catalog; returns its folder."""
    with bar("ingest") as progress:
        catalog = ingest(sources, workspace.catalog, spec, progress)
    if not catalog.samples:
        raise InputError(f"no image could be used: {reasons(catalog)}")
    catalog.snapshot()
    frame = samples_to_table(catalog.samples).to_pandas()
    counts = frame.fillna({"label": "-"}).groupby(["source", "label", "split"]).size().unstack(fill_value=0)
    rows = counts.reset_index().to_dict(orient="records")
    show_table(rows, key="catalog", description=f"Catalog {catalog.digest}")
    if catalog.quarantine.num_rows:
        show_table(catalog.quarantine.slice(0, 200).to_pylist(), key="quarantine", description="Skipped")
    return str(catalog.folder)


def reasons(catalog: Catalog) -> str:
    """Return the first skipped inputs with their reasons, and where all of them are listed."""
    return f"{first_few(rejected(catalog))} (all in {catalog.folder / QUARANTINE})"


def rejected(catalog: Catalog) -> tuple[SkippedImage, ...]:
    """Return the inputs that ingest skipped."""
    return tuple(SkippedImage(row["image"], row["reason"]) for row in catalog.quarantine.to_pylist())


@stage("priors", DATA)
def precompute_priors(catalog_folder: str, workspace: Workspace, spec: PriorSpec) -> Prepared:
    """Compute missing priors, and draw some beside their images.

    Many images are distributed by Dask; for few, starting processes would take longer than the work.
    """
    catalog = Catalog.open(catalog_folder)
    store = PriorStore.create_or_open(workspace.priors, spec)
    few = len(store.missing(sample.sha256 for sample in catalog.samples)) < MANY
    with workers(Compute(), here=few) as pool, bar("priors") as progress:
        client = None if pool.here else pool.client()
        reference, failures = compute_priors(catalog.samples, workspace.priors, spec, client, progress)
    if failures:
        first = first_few([f"{failure.image}: {failure.reason}" for failure in failures])
        raise InputError(f"{len(failures)} images of the catalog have no prior ({first}); ingest them again")
    prepared = Prepared(catalog_folder, catalog.digest, len(catalog.samples), catalog.quarantine.num_rows, reference)
    if not prepared.picture.is_file():
        from sgcldff.saliency.priors.gallery import prior_gallery

        shown = catalog.samples[:: -(-len(catalog.samples) // PICTURED)]
        prior_gallery(shown, PriorStore.open(reference), prepared.picture)
    show_image(prepared.picture, key="priors", description=f"Images beside their priors {spec.names}")
    return prepared
