"""Units of length as spelt in OME-XML, NGFF and ImageJ, and the scale of square pixels."""

import math
from pathlib import Path

from sgcldff.core.errors import SlideError
from sgcldff.core.settings import MAX_MPP, MIN_MPP

SQUARE = 0.02
"""Relative difference of um/px along y and x up to which pixels count as square."""
POWERS = (30, 27, 24, 21, 18, 15, 12, 9, 6, 3, 2, 1, -1, -2, -3, -6, -9, -12, -15, -18, -21, -24, -27, -30)
SYMBOLS = "Q R Y Z E P T G M k h da d c m µ n p f a z y r q"
SI_PREFIXES = dict(zip(SYMBOLS.split(), POWERS, strict=True)) | {"": 0, "u": -6, "μ": -6}
"""Power of ten by symbol; micro is also written with a u or the Greek letter."""
SPELLED = "quetta ronna yotta zetta exa peta tera giga mega kilo hecto deca deci centi milli micro nano pico femto atto"
PREFIX_NAMES = dict(zip(f"{SPELLED} zepto yocto ronto quecto".split(), POWERS, strict=True)) | {"": 0, "deka": 1}
"""Power of ten by name."""
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
