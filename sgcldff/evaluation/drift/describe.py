"""The reference of a trained model, with which new images are compared."""

from collections.abc import Sequence

import numpy as np

from sgcldff.core.records import Sample, Split
from sgcldff.evaluation.drift.observe import Progress, observe
from sgcldff.models.model import Model
from sgcldff.models.out_of_distribution import fit
from sgcldff.models.reference import Reference, annotation_digest


def describe(model: Model, samples: Sequence[Sample], progress: Progress | None = None, seed: int = 0) -> Reference:
    """Build the reference of a model from its images; the validation split gives the typical distances of cells.

    Parameters
    ----------
    samples
        The catalog on which the model was trained, all splits.
    seed
        Seed of the selection of images that are kept to measure drift.

    Raises
    ------
    InputError
        If an image cannot be read.
    """
    learned = [sample for sample in samples if sample.split in (Split.TRAIN, Split.VAL)]
    observations = observe(model, learned, progress)
    held_out = np.array([sample.split is Split.VAL for sample in learned])[observations.owners]
    types = [name for name, out in zip(observations.types, held_out, strict=True) if not out]
    typicality = fit(observations.embedding[~held_out], types, observations.embedding[held_out])
    truths = {sample.sha256: annotation_digest(sample) for sample in samples}
    return Reference(model.digest, truths, observations.sampled(seed), typicality)
