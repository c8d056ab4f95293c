"""Tiny smears with priors, made once a session."""

import pytest

from sgcldff.core.settings import PriorSpec
from sgcldff.data.adapters import detect
from sgcldff.data.catalog import ingest
from sgcldff.data.synthetic import write_dataset
from sgcldff.saliency.priors.precompute import compute_priors
from sgcldff.saliency.store import PriorStore


@pytest.fixture(scope="session")
def smears(tmp_path_factory):
    """Give the catalog of 40 synthetic crops and 6 fields and the store of their priors."""
    folder = tmp_path_factory.mktemp("smears")
    write_dataset(folder / "data", 40, 6, seed=3, mpp=0.2)
    catalog = ingest(detect(folder / "data"), folder / "catalog")
    reference, failures = compute_priors(catalog.samples, folder / "priors", PriorSpec())
    assert not failures
    return catalog, PriorStore.open(reference)
