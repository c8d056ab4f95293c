"""Training examples: crops of smears at the model's scale, with their annotations.

Targets are sets of allowed classes, so that data sets with masks only, types only, or both can be combined: a missing
target allows everything and contributes no gradient. The crop and its variation depend only on the seed, the epoch and
the position in the epoch, so that a run resumes exactly. Images that are missing or changed when an epoch starts are
skipped: the next image replaces each, and all other examples stay the same.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.distributed
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import InputError
from sgcldff.core.label_codes import (
    MAY_BE_ANYTHING,
    MAY_BE_BACKGROUND,
    MAY_BE_CELL,
    MAY_BE_CYTOPLASM,
    MAY_BE_NUCLEUS,
)
from sgcldff.core.labels import BROADER, NO_WHITE_CELL
from sgcldff.core.records import Sample
from sgcldff.core.settings import CELL_UM, ModelSpec
from sgcldff.core.stain import augment
from sgcldff.models.training.teacher import Teacher
from sgcldff.saliency.store import PriorStore
from sgcldff.slides.images import read_grey, read_rgb, rescale, scaled_shape

logger = logging.getLogger(__name__)

BACKGROUND_PRIOR, CELL_PRIOR, NUCLEUS_PRIOR = 0.05, 0.4, 0.7
"""Thresholds of the prior for pseudo-targets: below the first is background, above the others cell and nucleus. On
training images of BCCD, ALL-IDB2 and JTSC, at most 1.1 % of the pixels below are cell, at least 98.7 % of those above
are cell, and 96.7 % nucleus."""
MAX_CACHED_SCENES = 8192
"""Decoded images kept in memory, at the model's scale (about 0.1 MB each)."""


@dataclass(frozen=True)
class Scene:
    """An image at the model's scale with the annotation of its pixels and cells."""

    rgb: Rgb
    """uint8, (H, W, 3)."""
    target: NDArray[np.uint8]
    """Bits of the classes that each pixel may have (`sgcldff.core.label_codes`); (H, W)."""
    centres: tuple[tuple[float, float], ...]
    """(y, x) of the cells in mask or boxes, nearest to the image's centre first; the image's centre if there is neither
    mask nor boxes."""
    label_is_first: bool
    """Whether the image's label is the type of the first cell: it is the only one, or the image is a crop around it."""


ImageChange = Callable[[Rgb, Sample], Rgb]
"""A change of an image, uint8 (H, W, 3) at its own scale, that keeps its shape."""


def read_scene(sample: Sample, mpp: float, change: ImageChange | None = None) -> Scene:
    """Read an image with its annotation, apply `change` to it if given, and rescale both to `mpp` um/px.

    Raises
    ------
    InputError
        If image or mask cannot be read, or their sizes differ.
    """
    native = read_rgb(sample.image)
    rgb = rescale(change(native, sample) if change else native, sample.mpp, mpp)
    shape = (native.shape[0], native.shape[1])
    centres: tuple[tuple[float, float], ...]
    if sample.mask is None:
        target = _box_target(sample, shape, mpp)
        half = sample.mpp / mpp / 2
        boxes = sample.boxes
        centres = (
            (middle(rgb),) if boxes is None else tuple(((y0 + y1) * half, (x0 + x1) * half) for x0, y0, x1, y1 in boxes)
        )
    else:
        target = rescale(read_target(sample, shape), sample.mpp, mpp, labels=True)
        centres = _mask_centres(target)
    ordered = tuple(sorted(centres, key=lambda centre: math.dist(centre, middle(rgb))))
    return Scene(rgb, target, ordered, len(ordered) == 1 or sample.boxes is None)


def read_target(sample: Sample, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a sample's mask as bits of allowed classes, (H, W), at its native scale.

    Raises
    ------
    InputError
        If the manifest lacks the mask or its code, the mask cannot be read, or its shape differs from `shape`.
    """
    if sample.mask is None or sample.mask_code is None:
        raise InputError(f"{sample.image}: the manifest names no mask or no mask code; ingest it again")
    grey = read_grey(sample.mask)
    if grey.shape != shape:
        raise InputError(f"{sample.mask}: mask is {grey.shape}, image {shape} (height, width); export both at one size")
    cell = np.uint8(MAY_BE_CELL if sample.mask_code.nucleus is None else MAY_BE_CYTOPLASM)
    target = np.where(grey >= sample.mask_code.cytoplasm, cell, np.uint8(MAY_BE_BACKGROUND))
    if sample.mask_code.nucleus is not None:
        target[grey >= sample.mask_code.nucleus] = MAY_BE_NUCLEUS
    return target


def _box_target(sample: Sample, shape: tuple[int, int], mpp: float) -> NDArray[np.uint8]:
    """Return a target with background outside all boxes, open inside; open everywhere if a box is only a point."""
    height, width = scaled_shape(shape, sample.mpp, mpp)
    boxes = [box for box in sample.boxes or () if box[2] > box[0]]
    complete = sample.boxes is not None and len(boxes) == len(sample.boxes)
    target = np.full((height, width), MAY_BE_BACKGROUND if complete else MAY_BE_ANYTHING, np.uint8)
    scale = sample.mpp / mpp
    for x0, y0, x1, y1 in boxes:
        rows, columns = (slice(int(low * scale), int(np.ceil(high * scale))) for low, high in ((y0, y1), (x0, x1)))
        target[rows, columns] = MAY_BE_ANYTHING
    return target


def pseudo_target(prior: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a target (H, W), as bits of allowed classes, derived from a prior (P, H, W) where it is certain enough."""
    mean = prior.mean(axis=0)
    target = np.full(mean.shape, MAY_BE_ANYTHING, np.uint8)
    target[mean < BACKGROUND_PRIOR] = MAY_BE_BACKGROUND
    target[mean > CELL_PRIOR] = MAY_BE_CELL
    target[mean > NUCLEUS_PRIOR] = MAY_BE_NUCLEUS
    return target


def _mask_centres(target: NDArray[np.uint8]) -> tuple[tuple[float, float], ...]:
    """Return the centres of the cells in a mask, without specks below a tenth of the largest."""
    _, _, stats, centroids = cv2.connectedComponentsWithStats((target != MAY_BE_BACKGROUND).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = areas >= areas.max(initial=0) / 10
    return tuple((float(y), float(x)) for x, y in centroids[1:][large])


def middle(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Return an image's centre (y, x)."""
    return (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2


@dataclass(frozen=True)
class View:
    """A square window on a scene, rotated, mirrored and scaled; the same for image, prior and target."""

    matrix: NDArray[np.float64]
    """(2, 3), from (x, y) in the crop to (x, y) in the scene."""
    side: int
    """Side of the crop, px."""
    on_cell: bool
    """Whether the cell to which the image's label applies is at the centre."""

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """Crop an image (H, W) or (H, W, channels), which is mirrored at its border."""
        return self._warp(image, cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101)

    def cut_target(self, target: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Crop a target (H, W), which allows every class beyond its border."""
        return self._warp(target, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)

    def _warp(self, image: NDArray[Any], interpolation: int, border: int) -> NDArray[Any]:
        flags = interpolation | cv2.WARP_INVERSE_MAP
        size = (self.side, self.side)
        warped = cv2.warpAffine(image, self.matrix, size, flags=flags, borderMode=border, borderValue=MAY_BE_ANYTHING)
        return np.asarray(warped)


def centre_view(scene: Scene, side: int) -> View:
    """Return the view of the first cell, or of the image's centre if there is no cell."""
    centre = scene.centres[0] if scene.centres else middle(scene.rgb)
    return View(_matrix(centre, side, np.eye(2)), side, bool(scene.centres) and scene.label_is_first)


def cell_views(scene: Scene, side: int) -> tuple[View, ...]:
    """Return a view of every cell of a scene."""
    return tuple(
        View(_matrix(centre, side, np.eye(2)), side, on_cell=index == 0 and scene.label_is_first)
        for index, centre in enumerate(scene.centres)
    )


def random_view(scene: Scene, labelled: bool, side: int, rng: Generator) -> View:
    """Draw a rotated, mirrored, scaled and shifted view, mostly of a cell, and more often so if `labelled`."""
    angle, zoom, mirror = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.15, 0.15)), rng.choice((-1.0, 1.0))
    cosine, sine = np.cos(angle) * zoom, np.sin(angle) * zoom
    linear = np.array([[cosine * mirror, -sine], [sine * mirror, cosine]])
    if scene.centres and rng.random() < (0.9 if labelled else 0.6):
        chosen = 0 if labelled and scene.label_is_first else int(rng.integers(len(scene.centres)))
        y, x = scene.centres[chosen]
        dy, dx = rng.normal(0, side / 24, 2)
        return View(_matrix((y + dy, x + dx), side, linear), side, chosen == 0 and scene.label_is_first)
    anywhere = (rng.uniform(0, scene.rgb.shape[0]), rng.uniform(0, scene.rgb.shape[1]))
    return View(_matrix(anywhere, side, linear), side, on_cell=False)


def _matrix(centre: tuple[float, float], side: int, linear: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = np.full(2, (side - 1) / 2)
    offset = np.array((centre[1], centre[0])) - linear @ middle
    return np.column_stack((linear, offset))


class Example(NamedTuple):
    """One training example, or, once collated, a batch of B."""

    image: Tensor
    """float32 in [0, 1], (3, S, S)."""
    prior: Tensor
    """float32 in [0, 1], (P, S, S)."""
    target: Tensor
    """uint8 bits of allowed classes, (S, S)."""
    allowed: Tensor
    """bool, (C,): classes that the cell at the centre may have."""


@dataclass(frozen=True)
class SampleKey:
    """Key of one example of one epoch."""

    index: int
    """Index of the sample."""
    seed: tuple[int, int, int] | None
    """Run's seed, epoch and position in it, which determine the example's variation; None: no variation."""


@lru_cache(maxsize=MAX_CACHED_SCENES)
def cached_scene(sample: Sample, mpp: float) -> Scene:
    """`read_scene` with a cache."""
    return read_scene(sample, mpp)


@dataclass(frozen=True)
class ExampleOptions:
    """How images are turned into examples."""

    augmentation: float = 0
    """Strength of the stain and intensity augmentation."""
    recoloured: float = 0
    """Share of examples that are shown in the colours of another stain."""
    from_prior: bool = False
    """Whether the prior provides targets for images that have neither mask nor boxes."""
    prior_epochs: int = 0
    """Initial epochs with targets from the prior alone, in which the prior itself is hidden."""


def cycle_from(index: int, total: int) -> Iterator[int]:
    """Iterate over all indices below `total`, starting at `index` and wrapping around."""
    return ((index + step) % total for step in range(total))


class SmearDataset(Dataset[Example]):
    """Crops around cells (and, in fields, elsewhere) with priors and targets; indexed by `SampleKey`."""

    def __init__(
        self,
        samples: Sequence[Sample],
        priors: PriorStore,
        spec: ModelSpec,
        options: ExampleOptions,
        teacher: Teacher | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.spec = spec
        self.options = options
        self.teacher = teacher
        self.taught_target = lru_cache(maxsize=MAX_CACHED_SCENES)(self._taught_target)
        self.read_prior = lru_cache(maxsize=MAX_CACHED_SCENES)(priors.read)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: SampleKey) -> Example:
        """Return the example for a key; the next image replaces one that can no longer be read.

        Raises
        ------
        InputError
            If no image can be read.
        """
        sample, scene = self._read(key.index)
        saliency = self.read_prior(sample.sha256)
        if key.seed is not None and key.seed[1] < self.options.prior_epochs:
            unlabelled = replace(sample, label=None, mask=None, boxes=None)
            bare = replace(scene, centres=(middle(scene.rgb),), label_is_first=True)
            example = self._example(unlabelled, bare, saliency, pseudo_target(saliency), key)
            return example._replace(prior=torch.zeros_like(example.prior))
        return self._example(sample, scene, saliency, self._target(sample, scene, saliency), key)

    def _read(self, index: int) -> tuple[Sample, Scene]:
        """Read a sample, or the next one that can be read."""
        for candidate in cycle_from(index, len(self)):
            try:
                return self.samples[candidate], cached_scene(self.samples[candidate], self.spec.mpp)
            except InputError as error:
                logger.warning("skipped and replaced by the next image: %s", error)
        raise InputError(f"none of {len(self)} images can be read any more; restore them, or prepare them again")

    def _example(
        self,
        sample: Sample,
        scene: Scene,
        saliency: NDArray[np.float32],
        image_target: NDArray[np.uint8],
        key: SampleKey,
    ) -> Example:
        if key.seed is None:
            view = centre_view(scene, self.spec.crop_px)
            crop = view.cut(scene.rgb)
        else:
            rng = np.random.default_rng(key.seed)
            view = random_view(scene, sample.label is not None, self.spec.crop_px, rng)
            crop = augment(view.cut(scene.rgb), self.options.augmentation, rng, self.options.recoloured)
        target = view.cut_target(image_target)
        return Example(
            torch.from_numpy(crop).permute(2, 0, 1).float() / 255,
            torch.from_numpy(np.stack([view.cut(channel) for channel in saliency])),
            torch.from_numpy(target),
            torch.from_numpy(self.spec.labels.allowed(self._crop_label(sample, view, target))),
        )

    def _target(self, sample: Sample, scene: Scene, saliency: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return an image's target; where no white cell is, the prior is ignored, as it highlights platelets."""
        annotated = sample.mask is not None or sample.boxes is not None
        if not annotated and BROADER.get(sample.label or "", sample.label) == NO_WHITE_CELL:
            return np.full_like(scene.target, MAY_BE_BACKGROUND)
        taught = self.taught_target(sample)
        if taught is not None:
            return taught
        return scene.target if annotated or not self.options.from_prior else pseudo_target(saliency)

    def _taught_target(self, sample: Sample) -> NDArray[np.uint8] | None:
        """Return the target that the teacher leaves; None without one, or where nothing is open or it finds nothing."""
        scene = cached_scene(sample, self.spec.mpp)
        if self.teacher is None or (np.bitwise_count(scene.target) == 1).all():
            return None
        return self.teacher.refine(scene.rgb, self.read_prior(sample.sha256), scene.target)

    def _crop_label(self, sample: Sample, view: View, target: NDArray[np.uint8]) -> str | None:
        """Return the label of a crop: its cell's, or `NO_WHITE_CELL` if mask or boxes show only background."""
        if view.on_cell:
            return sample.label
        annotated = sample.mask is not None or sample.boxes is not None
        reach = round(CELL_UM / self.spec.mpp / 2)
        central = slice(max(0, view.side // 2 - reach), view.side // 2 + reach)
        background = (target[central, central] == MAY_BE_BACKGROUND).all()
        return NO_WHITE_CELL if annotated and NO_WHITE_CELL in self.spec.labels.classes and background else None
