"""A small smear, and what every way of storing it has to give back."""

from contextlib import closing

import cv2
import numpy as np
import pytest

from sgcldff.core.errors import SlideError
from sgcldff.core.geometry import Box
from sgcldff.slides import open_slide

MPP = 0.25
PER_CM = (1e4 / MPP,) * 2
SHAPE = (230, 310)
PAPER, RED, NUCLEUS = (236, 231, 228), (226, 160, 150), (90, 40, 130)


def smear(shape=SHAPE):
    """Draw cells on light paper, so that no turn and no change of channels leaves the picture as it was."""
    rng = np.random.default_rng(4)
    image = np.full((*shape, 3), PAPER, np.uint8)
    for number, (y, x) in enumerate(rng.uniform(0, 1, (24, 2)) * shape):
        cv2.circle(image, (int(x), int(y)), 14, NUCLEUS if number % 4 == 0 else RED, -1)
    image[:40, :25] = (200, 120, 40)
    return image


PICTURE = smear()
DEEP = PICTURE.astype(np.uint16) * 257


def read(path, mpp=MPP, level=0):
    """Read a level of a slide whole, and see that parts of it are the same pixels."""
    with closing(open_slide(path, mpp)) as slide:
        whole = slide.read(Box.of(slide.shapes[level]), level)
        part = Box(17, 5, 101, 60).clip(slide.shapes[level])
        assert np.array_equal(slide.read(part, level), whole[part.slices])
        assert slide.ref.shape == slide.shapes[0]
    return whole


def error_of(path, mpp=MPP):
    """Return the message with which a slide is refused."""
    with pytest.raises(SlideError) as refusal:
        open_slide(path, mpp)
    assert path.name in str(refusal.value)
    return str(refusal.value)


def stored_as(picture, orientation):
    """Give the pixels that a viewer turns to `picture`: the inverse of each orientation, as EXIF defines it."""
    undo = {
        1: lambda image: image,
        2: np.fliplr,
        3: lambda image: np.rot90(image, 2),
        4: np.flipud,
        5: lambda image: image.swapaxes(0, 1),
        6: lambda image: np.rot90(image, 1),
        7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
        8: lambda image: np.rot90(image, -1),
    }
    return np.ascontiguousarray(undo[orientation](picture))


def with_alpha(picture, clear=np.s_[:60, 200:]):
    """Give RGBA, black and transparent in a corner, and the picture as it looks on white."""
    rgba = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    rgba[clear] = 0
    shown = picture.copy()
    shown[clear] = 255
    return rgba, shown
