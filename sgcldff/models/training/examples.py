"""Training examples: crops of smears at the model's scale, with everything that is known of them.

Targets are sets of allowed answers, so that data sets with masks only, types only, or both train together: a missing
target allows everything and teaches nothing. Which crop is drawn and how it is varied depends only on the seed, the
epoch and the place in the epoch, so that a run resumes exactly. Images that are gone or changed when an epoch begins
are skipped in it: the next image takes the place of each, and all other examples stay as they are.
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
from sgcldff.core.labels import BROADER, NO_WHITE_CELL
from sgcldff.core.records import Sample
from sgcldff.core.settings import CELL_UM, ModelSpec
from sgcldff.core.stain import augment
from sgcldff.saliency.store import PriorStore
from sgcldff.slides.images import read_grey, read_rgb, rescale, scaled_shape

logger = logging.getLogger(__name__)

BACKGROUND, CYTOPLASM, NUCLEUS = 1, 2, 4
CELL, UNKNOWN = CYTOPLASM | NUCLEUS, BACKGROUND | CYTOPLASM | NUCLEUS
SURELY_BACKGROUND, SURELY_CELL, SURELY_NUCLEUS = 0.05, 0.4, 0.7
"""Values of the prior below and above which it teaches where no mask and no box does. On training images of BCCD,
ALL-IDB2 and JTSC at most 1.1 % of what lies below is cell, at least 98.7 % above is cell, and 96.7 % is nucleus."""
SCENES_KEPT = 8192
"""Images kept decoded in memory, at the model's scale (about 0.1 MB each)."""


@dataclass(frozen=True)
class Scene:
    """An image at the model's scale with what is known of its pixels and cells."""

    rgb: Rgb
    """uint8, (H, W, 3)."""
    target: NDArray[np.uint8]
    """Bits of the classes that each pixel may have: 1 background, 2 cytoplasm, 4 nucleus; (H, W)."""
    centres: tuple[tuple[float, float], ...]
    """(y, x) of the cells that mask or boxes show, nearest to the image's centre first; that centre where neither is
    known."""
    label_is_first: bool
    """Whether the image's label is the type of the first cell: it is the only one, or the image was cut around it."""


Change = Callable[[Rgb, Sample], Rgb]
"""What is done to an image, uint8 (H, W, 3) at its own scale, before anything else; its shape stays."""


def read_scene(sample: Sample, mpp: float, change: Change | None = None) -> Scene:
    """Read an image with its annotation, change it if asked to, and bring both to `mpp` um/px.

    Raises
    ------
    InputError
        If image or mask cannot be read, or their sizes differ.
    """
    native = read_rgb(sample.image)
    rgb = rescale(change(native, sample) if change else native, sample.mpp, mpp)
    shape = (native.shape[0], native.shape[1])
    if sample.mask is None:
        target = _box_target(sample, shape, mpp)
        centres = _box_centres(sample, mpp) if sample.boxes is not None else (middle(rgb),)
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
        If the mask is missing its code, cannot be read, or is not of `shape`.
    """
    if sample.mask is None or sample.mask_code is None:
        raise InputError(f"{sample.image}: the manifest names no mask or no mask code; ingest it again")
    grey = read_grey(sample.mask)
    if grey.shape != shape:
        raise InputError(f"{sample.mask}: mask is {grey.shape}, image {shape} (height, width); export them alike")
    cell = np.uint8(CELL if sample.mask_code.nucleus is None else CYTOPLASM)
    target = np.where(grey >= sample.mask_code.cytoplasm, cell, np.uint8(BACKGROUND))
    if sample.mask_code.nucleus is not None:
        target[grey >= sample.mask_code.nucleus] = NUCLEUS
    return target


def _box_target(sample: Sample, shape: tuple[int, int], mpp: float) -> NDArray[np.uint8]:
    """Boxes tell where no WBC is; inside them everything may be. A mere point tells nothing of its surroundings."""
    height, width = scaled_shape(shape, sample.mpp, mpp)
    boxes = [box for box in sample.boxes or () if box[2] > box[0]]
    known = sample.boxes is not None and len(boxes) == len(sample.boxes)
    target = np.full((height, width), BACKGROUND if known else UNKNOWN, np.uint8)
    scale = sample.mpp / mpp
    for x0, y0, x1, y1 in boxes:
        rows, columns = (slice(int(low * scale), int(np.ceil(high * scale))) for low, high in ((y0, y1), (x0, x1)))
        target[rows, columns] = UNKNOWN
    return target


def told_by_prior(prior: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the target (H, W), as bits of allowed classes, that a prior (P, H, W) in [0, 1] is sure enough of."""
    mean = prior.mean(axis=0)
    target = np.full(mean.shape, UNKNOWN, np.uint8)
    target[mean < SURELY_BACKGROUND] = BACKGROUND
    target[mean > SURELY_CELL] = CELL
    target[mean > SURELY_NUCLEUS] = NUCLEUS
    return target


def _mask_centres(target: NDArray[np.uint8]) -> tuple[tuple[float, float], ...]:
    """Centres of the cells in a mask; specks below a tenth of the largest are passed over."""
    _, _, stats, centroids = cv2.connectedComponentsWithStats((target != BACKGROUND).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = areas >= areas.max(initial=0) / 10
    return tuple((float(y), float(x)) for x, y in centroids[1:][large])


def _box_centres(sample: Sample, mpp: float) -> tuple[tuple[float, float], ...]:
    half = sample.mpp / mpp / 2
    return tuple(((y0 + y1) * half, (x0 + x1) * half) for x0, y0, x1, y1 in sample.boxes or ())


def middle(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Return an image's centre (y, x)."""
    return (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2


@dataclass(frozen=True)
class View:
    """A square window on a scene, turned, mirrored and scaled; the same for image, prior and target."""

    matrix: NDArray[np.float64]
    """(2, 3), from (x, y) in the crop to (x, y) in the scene."""
    side: int
    """Side of the crop, px."""
    on_cell: bool
    """Whether the cell that the image's label is about is at the centre."""

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """Cut an image (H, W) or (H, W, channels); beyond its border it is mirrored."""
        return self._warp(image, cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101)

    def cut_target(self, target: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut a target (H, W); beyond its border nothing is known."""
        return self._warp(target, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)

    def _warp(self, image: NDArray[Any], interpolation: int, border: int) -> NDArray[Any]:
        flags = interpolation | cv2.WARP_INVERSE_MAP
        size = (self.side, self.side)
        warped = cv2.warpAffine(image, self.matrix, size, flags=flags, borderMode=border, borderValue=UNKNOWN)
        return np.asarray(warped)


def steady(scene: Scene, side: int) -> View:
    """Look straight at the first cell, or at the middle where there is none."""
    centre = scene.centres[0] if scene.centres else middle(scene.rgb)
    return View(_matrix(centre, side, np.eye(2)), side, bool(scene.centres) and scene.label_is_first)


def portraits(scene: Scene, side: int) -> tuple[View, ...]:
    """Look straight at every cell of a scene; none where it has none."""
    views = (View(_matrix(centre, side, np.eye(2)), side, on_cell=False) for centre in scene.centres)
    return tuple(replace(view, on_cell=at == 0 and scene.label_is_first) for at, view in enumerate(views))


def aim(scene: Scene, labelled: bool, side: int, rng: Generator) -> View:
    """Draw a view: mostly on a cell, the more so if its type is known; turned, mirrored, scaled and moved a little."""
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


class Item(NamedTuple):
    """One training example, or a batch of B once collated."""

    image: Tensor
    """float32 in [0, 1], (3, S, S)."""
    prior: Tensor
    """float32 in [0, 1], (P, S, S)."""
    target: Tensor
    """uint8 bits of allowed classes, (S, S)."""
    allowed: Tensor
    """bool, (C,): types that the cell at the centre may have."""


@dataclass(frozen=True)
class Draw:
    """One example of one epoch."""

    index: int
    """Which sample is shown."""
    key: tuple[int, ...] | None
    """Seeds the example's variation; None shows it unvaried."""


@lru_cache(maxsize=SCENES_KEPT)
def cached_scene(sample: Sample, mpp: float) -> Scene:
    """`read_scene`, remembered."""
    return read_scene(sample, mpp)


@dataclass(frozen=True)
class Lessons:
    """How images are turned into examples."""

    augmentation: float = 0
    """Strength of the stain and intensity augmentation."""
    recoloured: float = 0
    """Share of examples that are shown in the colours of another stain."""
    from_prior: bool = False
    """Whether the prior outlines the cells of images without mask and boxes."""
    prior_epochs: int = 0
    """First epochs in which the prior alone teaches, and is not shown."""

    def warming_up(self, draw: Draw) -> bool:
        """Return whether an example is to be learned from the prior alone."""
        return draw.key is not None and draw.key[1] < self.prior_epochs


def in_turn(index: int, total: int) -> Iterator[int]:
    """Return a place and all that follow it in a circle of `total`: what is shown where an image cannot be read."""
    return ((index + step) % total for step in range(total))


class SmearDataset(Dataset[Item]):
    """Crops around cells (and, in fields, elsewhere) with priors and targets; indexed by `Draw`."""

    def __init__(self, samples: Sequence[Sample], priors: PriorStore, spec: ModelSpec, lessons: Lessons) -> None:
        self.samples = tuple(samples)
        self.spec = spec
        self.lessons = lessons
        self.read_prior = lru_cache(maxsize=SCENES_KEPT)(priors.read)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Item:
        """Cut the crop that a draw asks for; an image that cannot be read any more gives its place to the next one.

        Raises
        ------
        InputError
            If no image can be read.
        """
        warming_up = self.lessons.warming_up(draw)
        sample, scene = self._read(draw.index, known=not warming_up)
        item = self._seen(sample, scene, draw)
        return item._replace(prior=torch.zeros_like(item.prior)) if warming_up else item

    def _read(self, index: int, *, known: bool) -> tuple[Sample, Scene]:
        """Read a sample, or the next one that can be read; where it is not `known`, without what is known of it."""
        for place in in_turn(index, len(self)):
            sample = self.samples[place] if known else replace(self.samples[place], label=None, mask=None, boxes=None)
            try:
                return sample, cached_scene(sample, self.spec.mpp)
            except InputError as error:
                logger.warning("skipped, and the next image shown in its place: %s", error)
        raise InputError(f"none of {len(self)} images can be read any more; put them back, or prepare them again")

    def _seen(self, sample: Sample, scene: Scene, draw: Draw) -> Item:
        if draw.key is None:
            view = steady(scene, self.spec.crop_px)
            return self._item(sample, scene, view, view.cut(scene.rgb))
        rng = np.random.default_rng(draw.key)
        view = aim(scene, sample.label is not None, self.spec.crop_px, rng)
        crop = augment(view.cut(scene.rgb), self.lessons.augmentation, rng, self.lessons.recoloured)
        return self._item(sample, scene, view, crop)

    def _item(self, sample: Sample, scene: Scene, view: View, crop: Rgb) -> Item:
        saliency = self.read_prior(sample.sha256)
        target = view.cut_target(self._outlined(sample, scene, saliency))
        return Item(
            torch.from_numpy(crop).permute(2, 0, 1).float() / 255,
            torch.from_numpy(np.stack([view.cut(channel) for channel in saliency])),
            torch.from_numpy(target),
            torch.from_numpy(self.spec.labels.allowed(self._named(sample, view, target))),
        )

    def _outlined(self, sample: Sample, scene: Scene, saliency: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return what is known of an image's pixels; the prior, where it is asked, takes platelets for cells."""
        if sample.mask is not None or sample.boxes is not None:
            return scene.target
        if BROADER.get(sample.label or "", sample.label) == NO_WHITE_CELL:
            return np.full_like(scene.target, BACKGROUND)
        return told_by_prior(saliency) if self.lessons.from_prior else scene.target

    def _named(self, sample: Sample, view: View, target: NDArray[np.uint8]) -> str | None:
        """Return the label of a crop: its cell's, or that there is none where mask or boxes show background alone."""
        if view.on_cell:
            return sample.label
        annotated = sample.mask is not None or sample.boxes is not None
        reach = round(CELL_UM / self.spec.mpp / 2)
        middle = slice(max(0, view.side // 2 - reach), view.side // 2 + reach)
        empty = annotated and NO_WHITE_CELL in self.spec.labels.classes and (target[middle, middle] == BACKGROUND).all()
        return NO_WHITE_CELL if empty else None
