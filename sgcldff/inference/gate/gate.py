"""Which places of a slide hold a nucleus, judged at low power.

Statistics are taken once from a survey of the slide. After that every answer depends on pixels within `Gate.reach_px`
alone and is computed in whole numbers, so that shards of any size agree to the last bit.
"""

import math
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import CELL_UM, GateSpec
from sgcldff.inference.gate.smear_areas import (
    AreaReference,
    Blocks,
    block_px,
    classify_areas,
    fit_reference,
    smear_pixels,
)
from sgcldff.saliency.priors.ramf import RamfStatistics, fit_statistics, response_table, saturated

SIGMA_UM = 0.15 * CELL_UM
"""Standard deviation of the Gaussian over the stain: it spans a nucleus' lobe, platelets and rims are narrower."""
REACH_SIGMAS = 3.0
"""Where the Gaussian is cut off."""
STEPS = 100
"""Whole numbers to a response of 1; 255, where they end, is a nearly black nucleus."""
STAIN = np.rint(255 * saturated(np.arange(256, dtype=np.float32) / np.float32(STEPS))).astype(np.uint8)
"""Response -> score before smoothing, 0 to 255."""
SCORE_OF_CODE = np.arange(256, dtype=np.float32) / np.float32(255)
"""Score of each of the whole numbers that it is computed in."""


@dataclass(frozen=True)
class Gate:
    """A gate fitted to one slide; small, and the same for all of its shards."""

    spec: GateSpec
    mpp: float
    """um/px of the images that it is given."""
    stain: RamfStatistics
    smear: AreaReference

    @classmethod
    def fit(cls, spec: GateSpec, survey: Rgb, mpp: float) -> Self:
        """Take the statistics of a slide from `survey`, uint8 (H, W, 3), a sample of it at `mpp` um/px.

        A sample that is nearly all white cell spoils them: they assume that at most a quarter of the pixels is.
        Glass beyond half of the sample is left out.
        """
        pixels = smear_pixels(survey)
        stain = fit_statistics(pixels)
        return cls(spec, mpp, stain, fit_reference(pixels, stain.white))

    @property
    def reach_px(self) -> int:
        """What a pixel of `places` depends on lies at most this far from it along either axis, px."""
        return self._radius_px + self.margin_px

    @property
    def margin_px(self) -> int:
        """Room around a place, px."""
        return math.ceil(self.spec.margin_um / self.mpp)

    def scores(self, rgb: Rgb) -> NDArray[np.float32]:
        """Score every pixel of a uint8 image (H, W, 3): float32 (H, W) in [0, 1], high in a nucleus.

        The stain's matched filter, brought to [0, 1) and smoothed over the width of a nucleus' lobe.
        """
        return np.asarray(cv2.LUT(self._codes(rgb), SCORE_OF_CODE), np.float32)

    def places(self, rgb: Rgb) -> NDArray[np.bool_]:
        """Return which pixels must be read: bool (H, W), all within a square margin of a score at the threshold."""
        high = cv2.LUT(self._codes(rgb), (self.spec.threshold <= SCORE_OF_CODE).astype(np.uint8))
        return np.asarray(cv2.dilate(high, self._margin), bool)

    def reached(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the highest score within the margin of every pixel, (H, W): what `places` compares."""
        return np.asarray(cv2.dilate(scores, self._margin), np.float32)

    def areas(self, rgb: Rgb, blocks: Blocks | None = None) -> NDArray[np.uint8]:
        """Return the kind of smear by block: codes of `Area`, uint8 (rows, columns).

        A block's class depends on its own pixels alone.

        Parameters
        ----------
        blocks
            How the image is cut; by default into squares of `block_px`.
        """
        return classify_areas(rgb, blocks or Blocks.of(rgb.shape[:2], block_px(self.mpp)), self.mpp, self.smear)

    def _codes(self, rgb: Rgb) -> NDArray[np.uint8]:
        """Return scores of 0 to 255; OpenCV's Gaussian of bytes is exact, wherever an image is cut."""
        tables = np.rint(response_table(self.stain) * STEPS).astype(np.int16).T
        red, green, blue = (cv2.LUT(channel, table) for channel, table in zip(cv2.split(rgb), tables, strict=True))
        response = cv2.add(cv2.add(red, green), blue, dtype=cv2.CV_8U)
        side = 2 * self._radius_px + 1
        return np.asarray(cv2.GaussianBlur(cv2.LUT(response, STAIN), (side, side), SIGMA_UM / self.mpp), np.uint8)

    @property
    def _margin(self) -> NDArray[np.uint8]:
        return np.ones((2 * self.margin_px + 1,) * 2, np.uint8)

    @property
    def _radius_px(self) -> int:
        return math.ceil(REACH_SIGMAS * SIGMA_UM / self.mpp)
