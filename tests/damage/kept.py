"""What is kept between runs, small: a slide, a catalog, reviews, priors, a registry. Each is made, then read again."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import alembic.command  # noqa: F401  or every case would import it, as the next ones
import mlflow.store.model_registry.sqlalchemy_workspace_store
import mlflow.store.tracking.sqlalchemy_workspace_store  # noqa: F401
import numpy as np
import ome_zarr.writer  # noqa: F401
import pyarrow.dataset  # noqa: F401
import scipy.stats  # noqa: F401

from sgcldff.core.errors import InputError
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import PriorSpec
from sgcldff.data.adapters import Rejected, detect
from sgcldff.data.adapters.reviewed import ADAPTER
from sgcldff.data.catalog import Catalog, ingest
from sgcldff.data.reviews.store import Review, ReviewStore
from sgcldff.data.synthetic import write_dataset
from sgcldff.inference import serially
from sgcldff.models.checkpoint import SPEC_FILE, spec_to_dict
from sgcldff.models.model import save_model
from sgcldff.models.nets import build
from sgcldff.promotion import Attribution, Decision, FrozenTest, Outcome
from sgcldff.registry import Registry
from sgcldff.results.slide import SlideJob, read_slide_job
from sgcldff.saliency.priors.precompute import compute_priors
from sgcldff.saliency.store import PriorStore
from sgcldff.slides import SlideEntry
from tests.sgcldff.painted import SPEC, ColourModel, paint, saved
from tests.sgcldff.registry.odd_model import SPEC as TINY
from tests.sgcldff.registry.odd_model import report_of


@dataclass(frozen=True)
class Kept:
    """Something that is kept in a folder."""

    make: Callable[[Path], None]
    """Makes it in a folder, with all that it is made of."""
    place: str
    """The part of the folder that is damaged."""
    read: Callable[[Path], str]
    """Reads it, mends it if it can be mended, and returns a digest of all that it says."""
    lost: str = ""
    """Pattern of files whose loss alone is no damage: what was never added looks the same."""


def make_slide(folder: Path) -> None:
    """Paint a slide of nine shards, one of them without cells, and read it."""
    saved(folder, paint((300, 300), [(40, 40), (128, 130), (60, 200), (200, 60)], reds=20))
    (folder / "model").mkdir()
    (folder / "model" / SPEC_FILE).write_text(json.dumps(spec_to_dict(ColourModel().spec)))
    read_slide(folder)


def slide_job(folder: Path, out: Path) -> SlideJob:
    """Describe how the slide is read."""
    entry = SlideEntry(str(folder / "slide.tif"), None, "slide")
    return SlideJob(entry, str(folder / "model"), ModelRef("stub", "7", "colours"), str(out), SPEC)


def read_slide(folder: Path) -> str:
    """Read the slide, again or on; results are compared byte for byte, but for the time that it took."""
    job = slide_job(folder, folder / "out")
    read_slide_job(job, serially(ColourModel()))
    return files_digest(job.folder, skipped=("summary.json", ".lock"))


def files_digest(folder: Path, skipped: tuple[str, ...] = ()) -> str:
    """Hash the names and bytes of all files below a folder."""
    sha256 = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in skipped):
        sha256.update(f"{file.relative_to(folder)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    return sha256.hexdigest()


def make_catalog(folder: Path) -> None:
    """Ingest 12 crops and 2 fields."""
    write_dataset(folder / "data", 12, 2, seed=3, mpp=0.2)
    ingest(detect(folder / "data"), folder / "catalog")


def read_catalog(folder: Path) -> str:
    """Open the catalog, and bring it up to date."""
    opened = Catalog.open(folder / "catalog")
    again = ingest(detect(folder / "data"), folder / "catalog")
    return repr([(found.samples, found.quarantine.to_pylist()) for found in (opened, again)])


def make_reviews(folder: Path) -> None:
    """Store the answers of two people about five cells, in two steps."""
    rng = np.random.default_rng(0)
    images = {}
    for number in range(5):
        picture = saved(folder, rng.integers(0, 255, (24, 24, 3), np.uint8), name=f"{number}.png.tif")
        images[hashlib.sha256(picture.read_bytes()).hexdigest()] = picture
    store = ReviewStore(folder / "store")
    for day, reviewer in enumerate(("Ada", "Max"), 1):
        store.add(
            [
                Review(
                    f"slide-{number}", "slide", "ab" * 32, 10.0 * number, 5.0, "monocyte", reviewer,
                    datetime(2026, 1, day, number, tzinfo=UTC), sha256, 0.1, "neutrophil", 0.5, "m", "1", "cd" * 8,
                )
                for number, sha256 in enumerate(images)
            ],
            images,
        )  # fmt: skip


def read_reviews(folder: Path) -> str:
    """Read all answers, and the samples that are made of them, with their pictures."""
    reviews, samples = ReviewStore.open(folder / "store").reviews(), list(ADAPTER.scan(folder / "store"))
    if refused := [item.reason for item in samples if isinstance(item, Rejected)]:
        raise InputError("; ".join(refused))
    return repr((reviews, [(sample, Path(sample.image).read_bytes()) for sample in samples]))


def make_registry(folder: Path) -> None:
    """Register a model with its report, freeze a test set, and promote the model."""
    make_catalog(folder)
    registry = Registry(folder / "registry")
    ref = registry.register(save_model(folder / "trained", TINY, build(TINY)), report_of(0.9))
    registry.freeze(
        FrozenTest.of(Catalog.open(folder / "catalog").samples), Attribution("Ada", "2026-01-01T00:00:00+00:00")
    )
    promoted = Attribution("Ada", "2026-01-02T00:00:00+00:00")
    registry.promote(ref, decision=Decision(Outcome.PROMOTED, promoted, ref, ref))
    for code in (folder / "registry").rglob("code"):
        shutil.rmtree(code)  # only MLflow's own servers read it


def read_registry(folder: Path) -> str:
    """Read the champion, its report, the decisions on it and the test set."""
    registry = Registry(folder / "registry")
    ref, model = registry.resolve("models:/sgcldff@champion")
    return repr((files_digest(model), registry.report(ref), registry.decisions(ref), registry.test_set()))


def make_priors(folder: Path) -> None:
    """Compute the priors of 12 crops and 2 fields."""
    make_catalog(folder)
    _, failures = compute_priors(Catalog.open(folder / "catalog").samples, folder / "priors", PriorSpec())
    assert not failures


def read_priors(folder: Path) -> str:
    """Read the priors of all images."""
    (place,) = (path for path in (folder / "priors").iterdir() if path.is_dir())
    store, sha256 = PriorStore.open(place), hashlib.sha256()
    for sample in Catalog.open(folder / "catalog").samples:
        sha256.update(store.read(sample.sha256).tobytes())
    return sha256.hexdigest()


KEPT = {
    "slide": Kept(make_slide, "out", read_slide),
    "catalog": Kept(make_catalog, "catalog", read_catalog),
    "reviews": Kept(make_reviews, "store", read_reviews, "reviews/*.parquet"),
    "priors": Kept(make_priors, "priors", read_priors),
    "registry": Kept(make_registry, "registry/artifacts", read_registry),
}
