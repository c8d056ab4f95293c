"""Slides in memory and cells on them, of which tests write reports."""

from dataclasses import dataclass

import numpy as np

from sgcldff.core.geometry import Box
from sgcldff.core.records import SlideRef
from sgcldff.inference.outputs import CellRow


@dataclass(frozen=True)
class PaintedSlide:
    """A slide in memory; its coarser levels leave pixels out."""

    ref: SlideRef
    pixels: np.ndarray
    downsamples: tuple[float, ...] = (1.0,)

    @property
    def shapes(self):
        return tuple(self.level(step).shape[:2] for step in self.downsamples)

    def level(self, step):
        return self.pixels[:: int(step), :: int(step)]

    def read(self, box, level):
        pixels = self.level(self.downsamples[level])
        image, inside = np.full((*box.shape, 3), 255, np.uint8), box.clip(pixels.shape[:2])
        image[inside.within(box).slices] = pixels[inside.slices]
        return image

    def close(self):
        pass


def cell_at(name, place, label, confidence=0.8, radius=30.0, classes=5):
    """Give a round cell with a round nucleus of half its width; places and lengths in px of level 0."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    centre = np.array(place[::-1])
    box = Box(*(round(at - radius) for at in place), *(round(at + radius) for at in place))
    rest = (1 - confidence) / (classes - 1)
    return CellRow(
        cell_id=name,
        slide_id="slide",
        centroid=place,
        box=(box.y0, box.x0, box.y1, box.x1),
        outline=centre + radius * circle,
        area_um2=140.0,
        nucleus_area_um2=35.0,
        label=label,
        confidence=confidence,
        probabilities=np.array([confidence, *[rest] * (classes - 1)], np.float32),
        nuclei=(centre + radius / 2 * circle,),
    )
