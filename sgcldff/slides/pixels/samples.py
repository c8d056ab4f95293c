"""From decoded samples to what is computed with: colours on white paper, or the values of a mask."""

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
DARKEST = 1 / 8
"""Share of the range that the median pixel of named channels exceeds in brightfield, whose ground is light."""
LEAST_USED = 1 / 4
"""Share of the range that some value of deep samples exceeds, unless the range was declared wrongly."""


class Colours(StrEnum):
    """What the colour samples of a pixel are; the values are what messages say."""

    RGB = "RGB"
    GREY = "grey"
    WHITE_IS_ZERO = "grey, white is 0"
    PALETTE = "palette"
    CMYK = "CMYK"
    YCBCR = "YCbCr"
    OTHER = "other colours"


class Alpha(StrEnum):
    """How colours and transparency go together."""

    NONE = "none"
    STRAIGHT = "straight"
    PREMULTIPLIED = "premultiplied"


@dataclass(frozen=True)
class Samples:
    """What the samples of a pixel mean."""

    colours: Colours
    dtype: np.dtype[Any]
    bits: int
    """Significant bits of a sample; the highest value is white, or full ink."""
    order: tuple[int, ...] = (0, 1, 2)
    """Which samples are red, green and blue (cyan, magenta, yellow and black; Y, Cb and Cr)."""
    alpha: Alpha = Alpha.NONE
    alpha_at: int = -1
    """Which sample is the opacity."""
    palette: Rgb | None = None
    """(colours, 1, 3), for `Colours.PALETTE`."""
    by_channel: bool = False
    """The samples come from an axis of channels, which may as well be dyes."""

    @property
    def top(self) -> int:
        """Highest value."""
        return (1 << self.bits) - 1

    def require_colour(self, path: Path, found: str) -> None:
        """See that a pixel has a colour that can be told.

        Raises
        ------
        SlideError
            If the samples are grey, or of a kind that cannot be brought to 8 bits exactly.
        """
        coloured = self.colours not in (Colours.GREY, Colours.WHITE_IS_ZERO, Colours.OTHER)
        if self.palette is not None and not np.ptp(self.palette, axis=-1).any():
            coloured = False
        if not coloured or self.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise SlideError(f"{path}: is no colour picture of a stained smear ({found}); export it as 8-bit RGB")

    def require_light(self, path: Path, raw: NDArray[Any]) -> None:
        """See that a sample of the picture (H, W, samples) fits the depth, and the light ground, that are assumed.

        Raises
        ------
        SlideError
            If hardly any of the declared range is used, or channels show a dark ground as in fluorescence.
        """
        if self.colours is not Colours.RGB or not raw.size:
            return
        colours = raw[..., self.order]
        highest = int(colours.max())
        if self.bits > 8 and highest <= self.top * LEAST_USED:
            raise SlideError(
                f"{path}: is {self.dtype}, but no value is above {highest} of {self.top}, so that its depth is not"
                f" {self.bits} bits; declare the significant bits, or export it as 8-bit RGB"
            )
        if self.by_channel and float(np.median(colours.max(axis=-1))) <= self.top * DARKEST:
            raise SlideError(
                f"{path}: its channels show a dark ground, as in fluorescence, and no stained smear; export a"
                " brightfield picture as 8-bit RGB"
            )

    def to_rgb(self, raw: NDArray[Any]) -> Rgb:
        """Return the colours of samples (H, W, samples) on white paper: uint8 (H, W, 3)."""
        if self.colours is Colours.PALETTE and self.palette is not None:
            rgb: Rgb = self.palette[np.minimum(raw[..., 0], len(self.palette) - 1), 0]
        else:
            rgb = self._mixed(self._eight_bit(raw[..., self.order]))
        if self.alpha is Alpha.NONE:
            return rgb
        return on_paper(rgb, self._eight_bit(raw[..., self.alpha_at]), premultiplied=self.alpha is Alpha.PREMULTIPLIED)

    def to_mask(self, raw: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the values of a mask from samples (H, W, samples): uint8 (H, W); what is transparent is 0."""
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
        """Return the samples of a pixel of which the file says nothing: white or transparent; 0 in a mask."""
        pixel = np.full(count, self.top if colour else 0, self.dtype)
        if colour and self.palette is not None:
            pixel[0] = int(self.palette.sum(axis=(1, 2), dtype=int).argmax())
        if colour and self.colours is Colours.YCBCR:
            pixel[1:3] = 1 << (self.bits - 1)
        if self.colours is Colours.CMYK:
            pixel[:4] = 0
        return pixel

    def _eight_bit(self, raw: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale samples by their depth; 257 times an 8-bit value becomes that value."""
        if self.bits == 8:
            return raw.astype(np.uint8, copy=False)
        wide = np.minimum(raw, self.top).astype(np.uint32)
        return np.asarray((wide * EIGHT_BIT + self.top // 2) // self.top, np.uint8)

    def _mixed(self, eight: NDArray[np.uint8]) -> Rgb:
        """Mix colours from samples in their order."""
        if self.colours is Colours.CMYK:
            return np.asarray(Image.fromarray(eight, "CMYK").convert("RGB"))
        if self.colours is Colours.YCBCR:
            return np.asarray(Image.fromarray(eight, "YCbCr").convert("RGB"))
        return eight


def on_paper(
    colours: NDArray[np.uint8], opacity: NDArray[np.uint8], *, premultiplied: bool = False, paper: int = EIGHT_BIT
) -> NDArray[np.uint8]:
    """Lay (H, W, channels) with an opacity (H, W), both uint8, on paper of one grey value."""
    if (opacity == EIGHT_BIT).all():
        return colours
    share = opacity[..., None].astype(np.uint32)
    below = (EIGHT_BIT - share) * paper
    above = colours.astype(np.uint32) * (EIGHT_BIT if premultiplied else share)
    return np.asarray(np.minimum((above + below + EIGHT_BIT // 2) // EIGHT_BIT, EIGHT_BIT), np.uint8)


def mask_values(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring the values of a mask (H, W) to 8 bits so that thresholds on them select the same pixels.

    Values up to 255 stay. Deeper ones are taken for 257 times an 8-bit value, rounded down, but never to 0: a mask in
    which all that is not 0 is a cell keeps every pixel. Fractions of 1 are taken for fractions of 255.

    Raises
    ------
    ValueError
        If values are negative, not finite, or above 65535.
    """
    if values.dtype == np.uint8:
        return values
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
        raise ValueError(f"its values, {values.min()} to {values.max()}, are no values of a mask")
    if values.dtype.kind == "f" and values.max(initial=0) <= 1 and (values % 1).any():
        values = np.rint(values * EIGHT_BIT)
    if values.max(initial=0) <= EIGHT_BIT:
        return np.asarray(np.floor(values), np.uint8)
    return np.asarray(np.maximum(values // 257, values > 0), np.uint8)
