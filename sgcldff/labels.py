"""Cell types: the names in use, their synonyms, and label spaces in which a label may allow several types."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sgcldff.errors import LabelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEUTROPHIL, EOSINOPHIL, BASOPHIL, LYMPHOCYTE, MONOCYTE = FIVE_TYPES = (
    "neutrophil",
    "eosinophil",
    "basophil",
    "lymphocyte",
    "monocyte",
)
BLAST = "blast"
NON_BLAST = "non-blast"

SYNONYMS: Mapping[str, str] = {
    "neut": NEUTROPHIL,
    "neutro": NEUTROPHIL,
    "bne": NEUTROPHIL,
    "sne": NEUTROPHIL,
    "band": NEUTROPHIL,
    "eos": EOSINOPHIL,
    "eosi": EOSINOPHIL,
    "eo": EOSINOPHIL,
    "baso": BASOPHIL,
    "ba": BASOPHIL,
    "lymp": LYMPHOCYTE,
    "lympho": LYMPHOCYTE,
    "ly": LYMPHOCYTE,
    "mono": MONOCYTE,
    "mo": MONOCYTE,
    "lymphoblast": BLAST,
    "nonblast": NON_BLAST,
    "not blast": NON_BLAST,
    "healthy": NON_BLAST,
}


def canonical(name: str) -> str:
    """Give the name under which a cell type is known here ("EOSI", "Eosinophils" -> "eosinophil").

    An unknown name comes back lower-cased: whether a label space holds it is for that space to say.
    """
    lowered = name.strip().lower().replace("_", " ")
    singular = lowered.removesuffix("s")
    for candidate in (lowered, singular):
        if candidate in SYNONYMS:
            return SYNONYMS[candidate]
    return singular if singular in (*FIVE_TYPES, BLAST, NON_BLAST) else lowered


@dataclass(frozen=True)
class LabelSpace:
    """The classes a model tells apart, and coarse labels that stand for several of them.

    A label is taken as the set of classes that it allows. A coarse label ("non-blast") allows several, a missing one
    allows all; both then enter losses and metrics without special cases.
    """

    classes: tuple[str, ...]
    """Class names in the order of the model's outputs; at least two, all different."""

    coarse: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Coarse label -> the classes it may mean."""

    def __post_init__(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise LabelError(f"a label space needs at least two different classes, got {self.classes}")
        for name, members in self.coarse.items():
            if name in self.classes or not members or not set(members) <= set(self.classes):
                raise LabelError(f"coarse label {name!r} must stand for some of {self.classes}, got {members}")

    @property
    def known(self) -> tuple[str, ...]:
        """All labels that the space understands, fine ones first."""
        return (*self.classes, *self.coarse)

    def members(self, label: str) -> tuple[str, ...]:
        """Name the classes that `label` allows.

        Raises
        ------
        LabelError
            If no class knows the label.
        """
        if label in self.classes:
            return (label,)
        if label in self.coarse:
            return tuple(self.coarse[label])
        raise LabelError(
            f"label {label!r} is in no class; known are {', '.join(self.known)}: correct it or name other classes"
        )

    def allowed(self, label: str | None) -> "NDArray[np.bool_]":
        """Mark the classes that `label` allows: bool, shape (C,); all of them when the label is missing."""
        import numpy as np  # settings name label spaces, and are read before anything else is loaded

        members = self.classes if label is None else self.members(label)
        return np.isin(self.classes, members)

    def to_dict(self) -> dict[str, object]:
        """Give a JSON-ready form; `from_dict` reads it back."""
        return {"classes": list(self.classes), "coarse": {name: list(members) for name, members in self.coarse.items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "LabelSpace":
        """Read what `to_dict` wrote."""
        classes, coarse = data["classes"], data.get("coarse", {})
        assert isinstance(classes, (list, tuple))
        assert isinstance(coarse, Mapping)
        return cls(tuple(classes), {name: tuple(members) for name, members in coarse.items()})


WBC5 = LabelSpace(FIVE_TYPES)
WBC6 = LabelSpace((*FIVE_TYPES, BLAST), {NON_BLAST: FIVE_TYPES})
BLAST_OR_NOT = LabelSpace((NON_BLAST, BLAST), {})
PRESETS: Mapping[str, LabelSpace] = {"wbc5": WBC5, "wbc6": WBC6, "blast": BLAST_OR_NOT}


def label_space(name: str) -> LabelSpace:
    """Read a label space from a preset's name or from classes separated by commas.

    Raises
    ------
    LabelError
        If `name` is neither a preset nor a list of at least two classes.
    """
    if name in PRESETS:
        return PRESETS[name]
    classes = tuple(canonical(part) for part in name.split(",") if part.strip())
    if len(classes) < 2:
        raise LabelError(f"label space {name!r} is unknown: name one of {', '.join(PRESETS)} or classes as 'a,b,c'")
    return LabelSpace(classes)


def covering(labels: Iterable[str | None]) -> LabelSpace:
    """Choose the smallest preset that knows all `labels`; their own sorted names where none does.

    Raises
    ------
    LabelError
        If fewer than two different labels are given and no preset covers them.
    """
    present = {label for label in labels if label is not None}
    for space in (WBC5, BLAST_OR_NOT, WBC6):
        if present <= set(space.known):
            return space
    return LabelSpace(tuple(sorted(present)))
