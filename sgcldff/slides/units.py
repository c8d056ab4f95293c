"""Units of length as OME-XML and NGFF spell them."""

UM_PER_UNIT = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
}


def in_um(length: float, unit: str | None) -> float | None:
    """Convert a length to um; None where the unit is missing or no length ("pixel")."""
    factor = UM_PER_UNIT.get(unit or "")
    return None if factor is None else length * factor
