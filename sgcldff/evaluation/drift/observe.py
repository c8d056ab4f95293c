"""Labelled images as a model sees them: stain, priors, and the embeddings of their cells."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from sgcldff.core.records import Sample
from sgcldff.core.settings import ModelSpec
from sgcldff.core.stain import stain_statistics
from sgcldff.models.model import Model
from sgcldff.models.observations import Floats, Observations
from sgcldff.models.training.examples import cached_scene, cell_views
from sgcldff.saliency.priors import PriorStack, build

COVERED = 0.5
"""Prior from which on a pixel counts as covered."""
IMAGES_AT_ONCE = 16
"""Images whose cells go through the network together."""
CROPS_AT_ONCE = 32

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Seen:
    """One image before the network has looked at its C cells."""

    stain: Floats
    coverage: Floats
    crops: Floats
    """Cells with their priors, (C, S, S, 3 + P); RGB 0 to 255, priors in [0, 1]."""
    types: tuple[str, ...]
    """(C,)."""


def observe(model: Model, samples: Sequence[Sample], progress: Progress | None = None) -> Observations:
    """Look at images and at all cells that their masks or boxes show (in the middle, where there are neither).

    Raises
    ------
    InputError
        If an image or a mask cannot be read.
    """
    stack, seen, embedded = build(model.spec.prior), list[Seen](), list[Floats]()
    for batch in _batches(samples, IMAGES_AT_ONCE):
        looks = [see(sample, model.spec, stack) for sample in batch]
        embedded.append(embed(model, np.concatenate([look.crops for look in looks])))
        seen += [Seen(look.stain, look.coverage, look.crops[:0], look.types) for look in looks]
        if progress is not None:
            progress(len(seen), len(samples))
    _, groups = np.unique([sample.group for sample in samples], return_inverse=True)
    return Observations(
        groups.astype(np.int64),
        tuple(sample.label or "" for sample in samples),
        np.stack([look.stain for look in seen]),
        np.stack([look.coverage for look in seen]),
        np.repeat(np.arange(len(seen)), [len(look.types) for look in seen]),
        tuple(name for look in seen for name in look.types),
        np.concatenate(embedded),
    )


def see(sample: Sample, spec: ModelSpec, stack: PriorStack) -> Seen:
    """Measure an image and cut out its cells."""
    scene = cached_scene(sample, spec.mpp)
    prior = stack(scene.rgb)
    views = cell_views(scene, spec.crop_px)
    crops = [np.dstack((view.cut(scene.rgb), *(view.cut(channel) for channel in prior))) for view in views]
    side, channels = spec.crop_px, 3 + len(prior)
    label = spec.labels.resolve(sample.label) if sample.label in spec.labels.known else ""
    known = label if label in spec.labels.classes else ""
    return Seen(
        stain_statistics(scene.rgb),
        (prior >= COVERED).mean(axis=(1, 2)).astype(np.float32),
        np.asarray(crops, np.float32).reshape(-1, side, side, channels),
        tuple(known if view.on_cell else "" for view in views),
    )


def embed(model: Model, crops: Floats) -> Floats:
    """Give the embeddings (B, D) of crops as in `Seen`."""
    answers = [
        model.predict(part[..., :3].astype(np.uint8), part[..., 3:].transpose(0, 3, 1, 2)).embedding
        for part in (crops[at : at + CROPS_AT_ONCE] for at in range(0, len(crops), CROPS_AT_ONCE))
    ]
    return np.concatenate(answers) if answers else np.empty((0, model.embedding_width), np.float32)


def _batches(samples: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    left = iter(samples)
    while batch := list(islice(left, size)):
        yield batch
