"""Tiny smears with priors, made once in a run."""

import pytest

from sgcldff.core.settings import PriorSpec
from sgcldff.data.adapters import detect
from sgcldff.data.catalog import Catalog, ingest
from sgcldff.data.synthetic import write_dataset
from sgcldff.saliency.priors.precompute import compute_priors
from sgcldff.saliency.store import PriorStore
from tests import shared


@pytest.fixture(scope="session")
def smears():
    """Give the catalog of 40 synthetic crops and 6 fields and the store of their priors."""
    folder, reference = shared.once("smears", write_smears)
    return Catalog.open(folder), PriorStore.open(reference)


def write_smears(folder):
    """Write images, catalog and priors; gives where the latter two are."""
    write_dataset(folder / "data", 40, 6, seed=3, mpp=0.2)
    catalog = ingest(detect(folder / "data"), folder / "catalog")
    reference, failures = compute_priors(catalog.samples, folder / "priors", PriorSpec())
    assert not failures
    return catalog.folder, reference
