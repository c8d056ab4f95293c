"""Morphological attributes of a cell, as WBCAtt defines them (Tsutsui et al., NeurIPS 2023)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sgcldff.core.errors import InputError

VALUES: Mapping[str, tuple[str, ...]] = {
    "cell_size": ("small", "big"),
    "cell_shape": ("round", "irregular"),
    "nucleus_shape": (
        "unsegmented-round",
        "unsegmented-indented",
        "unsegmented-band",
        "segmented-bilobed",
        "segmented-multilobed",
        "irregular",
    ),
    "nuclear_cytoplasmic_ratio": ("low", "high"),
    "chromatin_density": ("loosely", "densely"),
    "cytoplasm_vacuole": ("no", "yes"),
    "cytoplasm_texture": ("clear", "frosted"),
    "cytoplasm_colour": ("light blue", "blue", "purple blue"),
    "granule_type": ("nil", "small", "round", "coarse"),
    "granule_colour": ("nil", "pink", "red", "purple"),
    "granularity": ("no", "yes"),
}
"""Attribute -> its possible values."""


@dataclass(frozen=True)
class CellAttributes:
    """The eleven attributes of one cell; each has one of its `VALUES`.

    Raises
    ------
    InputError
        If an attribute has another value.
    """

    cell_size: str
    cell_shape: str
    nucleus_shape: str
    nuclear_cytoplasmic_ratio: str
    chromatin_density: str
    cytoplasm_vacuole: str
    cytoplasm_texture: str
    cytoplasm_colour: str
    granule_type: str
    granule_colour: str
    granularity: str

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value not in VALUES[name]:
                raise InputError(f"attribute {name} is {value!r}: must be one of {', '.join(VALUES[name])}")
