"""Measurements of labelled images: stain, saliency priors, and embeddings of cells; and the reference made of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgcldff.core.arrays import Floats
from sgcldff.core.records import Sample, Split
from sgcldff.core.settings import ModelSpec
from sgcldff.core.stain import stain_statistics
from sgcldff.core.tally import Progress
from sgcldff.models.model import Model
from sgcldff.models.observations import Observations
from sgcldff.models.out_of_distribution import fit
from sgcldff.models.reference import Reference, annotation_digest
from sgcldff.models.training.examples import cached_scene, cell_views
from sgcldff.saliency.priors import PriorStack, build

SALIENT = 0.5
"""Prior at and above which a pixel counts as covered."""
IMAGES_AT_ONCE = 16
"""Images whose cells are embedded together."""
CROPS_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class ImageMeasurement:
    """One image with crops of its C cells, before they are embedded."""

    stain: Floats
    coverage: Floats
    crops: Floats
    """Cells with their priors, (C, S, S, 3 + P); RGB 0 to 255, priors in [0, 1]."""
    types: tuple[str, ...]
    """(C,)."""


def observe(model: Model, samples: Sequence[Sample], progress: Progress | None = None) -> Observations:
    """Measure images and all cells in their masks or boxes (or at the centre, if there are neither).

    Raises
    ------
    InputError
        If an image or a mask cannot be read.
    """
    stack, measured, embedded = build(model.spec.prior), list[ImageMeasurement](), list[Floats]()
    for start in range(0, len(samples), IMAGES_AT_ONCE):
        batch = [measure_image(sample, model.spec, stack) for sample in samples[start : start + IMAGES_AT_ONCE]]
        embedded.append(embed(model, np.concatenate([image.crops for image in batch])))
        measured += [replace(image, crops=image.crops[:0]) for image in batch]
        if progress is not None:
            progress(len(measured), len(samples))
    _, groups = np.unique([sample.group for sample in samples], return_inverse=True)
    return Observations(
        groups.astype(np.int64),
        tuple(sample.label or "" for sample in samples),
        np.stack([image.stain for image in measured]),
        np.stack([image.coverage for image in measured]),
        np.repeat(np.arange(len(measured)), [len(image.types) for image in measured]),
        tuple(name for image in measured for name in image.types),
        np.concatenate(embedded),
    )


def measure_image(sample: Sample, spec: ModelSpec, stack: PriorStack) -> ImageMeasurement:
    """Measure an image and crop its cells."""
    scene = cached_scene(sample, spec.mpp)
    prior = stack(scene.rgb)
    views = cell_views(scene, spec.crop_px)
    crops = [np.dstack((view.cut(scene.rgb), *(view.cut(channel) for channel in prior))) for view in views]
    side, channels = spec.crop_px, 3 + len(prior)
    label = spec.labels.resolve(sample.label) if sample.label in spec.labels.known else ""
    cell_type = label if label in spec.labels.classes else ""
    return ImageMeasurement(
        stain_statistics(scene.rgb),
        (prior >= SALIENT).mean(axis=(1, 2)).astype(np.float32),
        np.asarray(crops, np.float32).reshape(-1, side, side, channels),
        tuple(cell_type if view.on_cell else "" for view in views),
    )


def embed(model: Model, crops: Floats) -> Floats:
    """Return the embeddings (B, D) of crops as in `ImageMeasurement`."""
    embeddings = [
        model.predict(part[..., :3].astype(np.uint8), part[..., 3:].transpose(0, 3, 1, 2)).embedding
        for part in (crops[at : at + CROPS_AT_ONCE] for at in range(0, len(crops), CROPS_AT_ONCE))
    ]
    return np.concatenate(embeddings) if embeddings else np.empty((0, model.embedding_width), np.float32)


def describe(model: Model, samples: Sequence[Sample], progress: Progress | None = None) -> Reference:
    """Build the reference of a model from its images; the validation split gives the typical distances of cells.

    Parameters
    ----------
    samples
        The catalog on which the model was trained, all splits.

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
    return Reference(model.digest, truths, observations.sampled(seed=0), typicality)
