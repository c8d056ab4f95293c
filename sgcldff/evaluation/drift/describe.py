"""From a trained model and its images to its reference."""

from collections.abc import Sequence

import numpy as np

from sgcldff.core.records import Sample, Split
from sgcldff.evaluation.drift.observe import Progress, observe
from sgcldff.models.model import Model
from sgcldff.models.out_of_distribution import fit
from sgcldff.models.reference import Reference, annotation_digest


def describe(model: Model, samples: Sequence[Sample], progress: Progress | None = None, seed: int = 0) -> Reference:
    """Look at the images that a model learned from; those of the validation split say how far cells may be.

    Parameters
    ----------
    samples
        The catalog from which the model was trained, of all splits.
    seed
        Draws the images that are kept to measure drift.

    Raises
    ------
    InputError
        If an image cannot be read.
    """
    learned = [sample for sample in samples if sample.split in (Split.TRAIN, Split.VAL)]
    seen = observe(model, learned, progress)
    held_out = np.array([sample.split is Split.VAL for sample in learned])[seen.owners]
    types = [name for name, out in zip(seen.types, held_out, strict=True) if not out]
    typicality = fit(seen.embedding[~held_out], types, seen.embedding[held_out])
    known = {sample.sha256: annotation_digest(sample) for sample in samples}
    return Reference(model.digest, known, seen.sampled(seed), typicality)
