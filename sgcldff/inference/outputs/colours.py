"""One colour per cell type, the same in every output."""

import hashlib
from collections.abc import Mapping

from sgcldff.core.labels import BASOPHIL, BLAST, EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL, NON_BLAST
from sgcldff.core.records import UNIDENTIFIED

Colour = tuple[int, int, int]
"""Red, green, blue; 0 to 255."""

COLOURS: Mapping[str, Colour] = {
    NEUTROPHIL: (0, 114, 178),
    EOSINOPHIL: (213, 94, 0),
    BASOPHIL: (140, 40, 150),
    LYMPHOCYTE: (0, 158, 115),
    MONOCYTE: (204, 130, 0),
    BLAST: (200, 30, 60),
    NON_BLAST: (60, 110, 160),
    UNIDENTIFIED: (120, 120, 120),
}
"""Told apart by readers who see red and green alike (after Okabe and Ito 2008); legible on white and on smears."""


def colour_of(label: str) -> Colour:
    """Return a type's colour; a type of another label space gets one of its own that never changes."""
    if label in COLOURS:
        return COLOURS[label]
    red, green, blue = (40 + byte % 160 for byte in hashlib.sha256(label.encode()).digest()[:3])
    return red, green, blue


def hex_of(label: str) -> str:
    """Return a type's colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(label))
