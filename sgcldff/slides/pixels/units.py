"""Units of length as spelt in OME-XML, NGFF and ImageJ, and the scale of square pixels."""

import math
from pathlib import Path

from sgcldff.core.errors import SlideError
from sgcldff.core.settings import MAX_MPP, MIN_MPP

SQUARE = 0.02
"""Relative difference of um/px along y and x up to which pixels count as square."""
SI_PREFIXES = {
    "Q": 30,
    "R": 27,
    "Y": 24,
    "Z": 21,
    "E": 18,
    "P": 15,
    "T": 12,
    "G": 9,
    "M": 6,
    "k": 3,
    "h": 2,
    "da": 1,
    "": 0,
    "d": -1,
    "c": -2,
    "m": -3,
    "n": -9,
    "p": -12,
    "f": -15,
    "a": -18,
    "z": -21,
    "y": -24,
    "r": -27,
    "q": -30,
    **dict.fromkeys("uµμ", -6),
}
PREFIX_NAMES = {
    "yotta": 24,
    "zetta": 21,
    "exa": 18,
    "peta": 15,
    "tera": 12,
    "giga": 9,
    "mega": 6,
    "kilo": 3,
    "hecto": 2,
    "deca": 1,
    "deka": 1,
    "": 0,
    "deci": -1,
    "centi": -2,
    "milli": -3,
    "micro": -6,
    "nano": -9,
    "pico": -12,
    "femto": -15,
    "atto": -18,
    "zepto": -21,
    "yocto": -24,
}
INCH = 25_400.0
OTHERS = {
    **dict.fromkeys(("angstrom", "ångström", "å"), 1e-4),
    **dict.fromkeys(("inch", "inches", "in", '"'), INCH),
    **dict.fromkeys(("thou", "mil"), INCH / 1000),
    **dict.fromkeys(("line", "li"), INCH / 12),
    **dict.fromkeys(("point", "pt"), INCH / 72),
    **dict.fromkeys(("foot", "feet", "ft"), INCH * 12),
    **dict.fromkeys(("yard", "yd"), INCH * 36),
    **dict.fromkeys(("mile", "mi"), INCH * 63_360),
    **dict.fromkeys(("micron", "microns"), 1.0),
}
"""um per unit, by the lower-case name."""

Spacing = tuple[float | None, float | None]
"""um/px along y and x according to the metadata; None if these lack it."""


def in_um(length: float, unit: str | None) -> float | None:
    """Convert a length to um; None if the unit is missing or not a length ("pixel").

    Case matters for symbols ("mm", "Mm"), but not for names.
    """
    symbol = (unit or "").strip().replace("\\u00B5", "µ")
    name = symbol.lower()
    power = SI_PREFIXES.get(symbol.removesuffix("m")) if symbol.endswith("m") else None
    for ending in ("meters", "metres", "meter", "metre"):
        power = PREFIX_NAMES.get(name.removesuffix(ending), power) if name.endswith(ending) else power
    factor = OTHERS.get(name) if power is None else 10.0 ** (power + 6)
    return None if factor is None else length * factor


def square_mpp(path: Path, spacing: Spacing) -> float | None:
    """Return the um/px of square pixels: the geometric mean, which preserves areas; None if none is plausible.

    Implausible scales, such as 72 dpi, are ignored. If only one side is known, pixels are assumed to be square.

    Raises
    ------
    SlideError
        If the sides differ by more than 2 %.
    """
    known = [mpp for mpp in spacing if mpp is not None and math.isfinite(mpp) and mpp > 0]
    if not any(MIN_MPP <= mpp <= MAX_MPP for mpp in known):
        return None
    if max(known) > min(known) * (1 + SQUARE):
        y, x = spacing
        raise SlideError(
            f"{path}: its pixels are not square: {x:.6g} um wide, {y:.6g} um high by its metadata (at most {SQUARE:.0%}"
            " apart); resample it to square pixels, or correct its metadata where they are wrong"
        )
    return math.sqrt(math.prod(known)) if len(known) == 2 and known[0] != known[1] else known[0]
