"""Labelled images that a model was not trained on."""

import tempfile

from sgcldff.data.adapters import Source
from sgcldff.data.catalog import ingest
from tasks.evaluation import trained_on


def unseen_samples(places, folder):
    """Return the labelled images in data sets at `places` that the model in `folder` was not trained on."""
    learned = trained_on(folder)
    sources = (found for place in places for found in Source("auto", place).resolved())
    with tempfile.TemporaryDirectory() as scratch:
        return [one for one in ingest(sources, scratch).samples if one.label and one.sha256 not in learned]
