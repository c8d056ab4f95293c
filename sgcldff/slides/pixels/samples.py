"""Conversion of decoded samples to RGB on a white background, or to the values of a mask."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import SlideError

EIGHT_BIT = 255
DARK_GROUND = 1 / 8
"""Share of the range that the median pixel of named channels exceeds in brightfield, whose background is light."""
MIN_RANGE_USED = 1 / 4
"""Share of the range that the highest value of deep samples exceeds, unless the range was declared wrongly."""


class Colours(StrEnum):
    """Colour model of the samples of a pixel; messages use the values."""

    RGB = "RGB"
    GREY = "grey"
    WHITE_IS_ZERO = "grey, white is 0"
    PALETTE = "palette"
    CMYK = "CMYK"
    YCBCR = "YCbCr"
    OTHER = "other colours"


class Alpha(StrEnum):
    """Relation of colours and transparency."""

    NONE = "none"
    STRAIGHT = "straight"
    PREMULTIPLIED = "premultiplied"


@dataclass(frozen=True)
class Samples:
    """The meaning of the samples of a pixel."""

    colours: Colours
    dtype: np.dtype[Any]
    bits: int
    """Significant bits of a sample; the highest value is white, or full ink."""
    order: tuple[int, ...] = (0, 1, 2)
    """Indices of red, green and blue (or cyan, magenta, yellow and black; Y, Cb and Cr)."""
    alpha: Alpha = Alpha.NONE
    alpha_at: int = -1
    """Index of the opacity."""
    palette: Rgb | None = None
    """(colours, 1, 3), for `Colours.PALETTE`."""
    by_channel: bool = False
    """Whether the samples come from a channel axis, whose channels could also be dyes."""

    @property
    def top(self) -> int:
        """Highest value."""
        return (1 << self.bits) - 1

    def require_colour(self, path: Path, found: str) -> None:
        """Check that the samples are colours; `found` describes them for messages.

        Raises
        ------
        SlideError
            If the samples are grey, or of a type that cannot be converted to 8 bits exactly.
        """
        coloured = self.colours not in (Colours.GREY, Colours.WHITE_IS_ZERO, Colours.OTHER)
        if self.palette is not None and not np.ptp(self.palette, axis=-1).any():
            coloured = False
        if not coloured or self.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise SlideError(f"{path}: is no colour picture of a stained smear ({found}); export it as 8-bit RGB")

    def require_light(self, path: Path, raw: NDArray[Any]) -> None:
        """Check that part of the picture (H, W, samples) fits the declared depth, and has a light background.

        Raises
        ------
        SlideError
            If hardly any of the declared range is used, or the channels have a dark background as in fluorescence.
        """
        if self.colours is not Colours.RGB or not raw.size:
            return
        colours = self._ordered(raw)
        highest = int(colours.max())
        if self.bits > 8 and highest <= self.top * MIN_RANGE_USED:
            raise SlideError(
                f"{path}: is {self.dtype}, but no value is above {highest} of {self.top}, so that its depth is not"
                f" {self.bits} bits; declare the significant bits, or export it as 8-bit RGB"
            )
        if self.by_channel and float(np.median(colours.max(axis=-1))) <= self.top * DARK_GROUND:
            raise SlideError(
                f"{path}: its channels show a dark ground, as in fluorescence, and no stained smear; export a"
                " brightfield image as 8-bit RGB"
            )

    def to_rgb(self, raw: NDArray[Any]) -> Rgb:
        """Convert samples (H, W, samples) to colours on a white background: uint8 (H, W, 3)."""
        if self.colours is Colours.PALETTE and self.palette is not None:
            rgb: Rgb = self.palette[np.minimum(raw[..., 0], len(self.palette) - 1), 0]
        else:
            rgb = self._mixed(self._eight_bit(self._ordered(raw)))
        if self.alpha is Alpha.NONE:
            return rgb
        return on_paper(rgb, self._eight_bit(raw[..., self.alpha_at]), premultiplied=self.alpha is Alpha.PREMULTIPLIED)

    def to_mask(self, raw: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert samples (H, W, samples) to the values of a mask: uint8 (H, W); transparent pixels are 0."""
        if self.colours in (Colours.GREY, Colours.WHITE_IS_ZERO):
            values = self._eight_bit(raw[..., 0]) if self.bits < 8 else mask_values(raw[..., 0])
            grey = EIGHT_BIT - values if self.colours is Colours.WHITE_IS_ZERO else values
        else:
            opaque = Samples(self.colours, self.dtype, self.bits, self.order, palette=self.palette)
            grey = np.asarray(Image.fromarray(opaque.to_rgb(raw)).convert("L"))
        if self.alpha is not Alpha.STRAIGHT:
            return grey
        opacity = self._eight_bit(raw[..., self.alpha_at])
        return on_paper(grey[..., None], opacity, paper=0).reshape(grey.shape)

    def paper(self, count: int, colour: bool) -> NDArray[Any]:
        """Return the samples of a pixel that is missing in the file: white or transparent; 0 in a mask."""
        pixel = np.full(count, self.top if colour else 0, self.dtype)
        if colour and self.palette is not None:
            pixel[0] = int(self.palette.sum(axis=(1, 2), dtype=int).argmax())
        if colour and self.colours is Colours.YCBCR:
            pixel[1:3] = 1 << (self.bits - 1)
        if self.colours is Colours.CMYK:
            pixel[:4] = 0
        return pixel

    def _ordered(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Return the colours of samples, in order; most pictures store just these, which need no copy."""
        return raw if self.order == tuple(range(raw.shape[-1])) else raw.take(self.order, axis=-1)

    def _eight_bit(self, raw: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale samples by their depth, such that 257 times an 8-bit value becomes that value."""
        if self.bits == 8:
            return raw.astype(np.uint8, copy=False)
        wide = np.minimum(raw, self.top).astype(np.uint32)
        return np.asarray((wide * EIGHT_BIT + self.top // 2) // self.top, np.uint8)

    def _mixed(self, eight: NDArray[np.uint8]) -> Rgb:
        """Convert ordered 8-bit samples to RGB."""
        if self.colours is Colours.CMYK:
            return np.asarray(Image.fromarray(eight, "CMYK").convert("RGB"))
        if self.colours is Colours.YCBCR:
            return np.asarray(Image.fromarray(eight, "YCbCr").convert("RGB"))
        return eight


def on_paper(
    colours: NDArray[np.uint8], opacity: NDArray[np.uint8], *, premultiplied: bool = False, paper: int = EIGHT_BIT
) -> NDArray[np.uint8]:
    """Blend (H, W, channels) with an opacity (H, W), both uint8, over a uniform background `paper`."""
    if (opacity == EIGHT_BIT).all():
        return colours
    share = opacity[..., None].astype(np.uint32)
    below = (EIGHT_BIT - share) * paper
    above = colours.astype(np.uint32) * (EIGHT_BIT if premultiplied else share)
    return np.asarray(np.minimum((above + below + EIGHT_BIT // 2) // EIGHT_BIT, EIGHT_BIT), np.uint8)


def mask_values(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert the values of a mask (H, W) to 8 bits such that thresholds select the same pixels.

    Values up to 255 are kept. Deeper ones are assumed to be 257 times an 8-bit value and rounded down, but never to 0,
    so that a mask whose cells are all that is not 0 keeps every pixel. Fractions of 1 become fractions of 255.

    Raises
    ------
    ValueError
        If values are negative, not finite, or above 65535.
    """
    if values.dtype == np.uint8:
        return values
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
        raise ValueError(f"its values, {values.min()} to {values.max()}, are not those of a mask")
    if values.dtype.kind == "f" and values.max(initial=0) <= 1 and (values % 1).any():
        values = np.rint(values * EIGHT_BIT)
    if values.max(initial=0) <= EIGHT_BIT:
        return np.asarray(np.floor(values), np.uint8)
    return np.asarray(np.maximum(values // 257, values > 0), np.uint8)
