"""Cell types: canonical names, synonyms, and label spaces in which a label may allow several classes."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from sgcldff.core.errors import LabelError

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
SEGMENTED, BAND = "segmented neutrophil", "band neutrophil"
PROMYELOCYTE, MYELOCYTE, METAMYELOCYTE = "promyelocyte", "myelocyte", "metamyelocyte"
IMMATURE_GRANULOCYTE = "immature granulocyte"
ERYTHROBLAST = "erythroblast"
BLAST = "blast"
NON_BLAST = "non-blast"
NO_WHITE_CELL = "no white cell"
PLATELET, PLATELET_CLUMP, RED_CELL, DEBRIS = "platelet", "platelet clump", "red cell", "debris"
SMUDGE, REACTIVE, PLASMA_CELL = "smudge cell", "reactive lymphocyte", "plasma cell"
"""Types that people count, and that no preset has."""

SUBTYPES: Mapping[str, tuple[str, ...]] = {
    NEUTROPHIL: (SEGMENTED, BAND),
    IMMATURE_GRANULOCYTE: (PROMYELOCYTE, MYELOCYTE, METAMYELOCYTE),
    NO_WHITE_CELL: (PLATELET, PLATELET_CLUMP, RED_CELL, DEBRIS),
}
"""Broad label -> the finer labels that it comprises."""
BROADER: Mapping[str, str] = {fine: broad for broad, members in SUBTYPES.items() for fine in members}
"""Fine label -> the broad label that it belongs to."""

NAMES = (*FIVE_TYPES, *SUBTYPES, *BROADER, ERYTHROBLAST, BLAST, NON_BLAST)
COUNTED_NAMES = (*NAMES, SMUDGE, REACTIVE, PLASMA_CELL)
"""Types that a manual count may have."""
NOT_WHITE = (ERYTHROBLAST, SMUDGE, NO_WHITE_CELL, *SUBTYPES[NO_WHITE_CELL])
"""What is reported per 100 white cells, and is no part of a differential."""
OTHER = "other: "
"""Beginning of an answer in a reviewer's own words; such a cell counts as a white cell of a type of its own."""
SYNONYMS: Mapping[str, str] = {
    "neut": NEUTROPHIL,
    "neutro": NEUTROPHIL,
    "sne": SEGMENTED,
    "seg": SEGMENTED,
    "segmented": SEGMENTED,
    "neutrophil segmented": SEGMENTED,
    "bne": BAND,
    "band": BAND,
    "stab": BAND,
    "neutrophil band": BAND,
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
    "pmy": PROMYELOCYTE,
    "my": MYELOCYTE,
    "mmy": METAMYELOCYTE,
    "ig": IMMATURE_GRANULOCYTE,
    "erb": ERYTHROBLAST,
    "nrbc": ERYTHROBLAST,
    "normoblast": ERYTHROBLAST,
    "nucleated red cell": ERYTHROBLAST,
    "thrombocyte": PLATELET,
    "rbc": RED_CELL,
    "erythrocyte": RED_CELL,
    "red blood cell": RED_CELL,
    "lymphoblast": BLAST,
    "nonblast": NON_BLAST,
    "not blast": NON_BLAST,
    "healthy": NON_BLAST,
}


OFFERED = (NO_WHITE_CELL, SMUDGE, PLATELET, BLAST, IMMATURE_GRANULOCYTE, ERYTHROBLAST)
"""Types that a reviewer is offered beside a model's classes, where it lacks them."""
WATCHED_FOR = (BLAST, IMMATURE_GRANULOCYTE, BAND, ERYTHROBLAST)
"""Types that a person looks for in every smear, and that a model may lack."""


def foreign_types(classes: Iterable[str]) -> tuple[str, ...]:
    """Return the types that people name and that a model with these classes lacks, broadly and finely."""
    own = set(classes)
    return tuple(
        name
        for name in dict.fromkeys((*OFFERED, *COUNTED_NAMES))
        if name != NON_BLAST and not own & {name, BROADER.get(name, name), *SUBTYPES.get(name, ())}
    )


def broader_types(classes: Iterable[str]) -> tuple[str, ...]:
    """Return the types of which a model with these classes distinguishes subtypes."""
    return tuple(dict.fromkeys(BROADER[name] for name in classes if name in BROADER))


def cannot_tell(classes: Iterable[str]) -> tuple[str, ...]:
    """Return the types of `WATCHED_FOR` for which neither a class nor one of its subtypes stands."""
    own = set(classes)
    return tuple(name for name in WATCHED_FOR if not own & {name, *SUBTYPES.get(name, ())})


def canonical(name: str) -> str:
    """Return the canonical name of a cell type ("EOSI", "Eosinophils" -> "eosinophil").

    An unknown name is returned in lower case: a label space decides whether it contains it.
    """
    lowered = name.strip().lower().replace("_", " ")
    singular = lowered.removesuffix("s")
    for candidate in (lowered, singular):
        if candidate in SYNONYMS:
            return SYNONYMS[candidate]
    return singular if singular in COUNTED_NAMES else lowered


def resolve_label(name: str, known: Collection[str]) -> str:
    """Return the canonical name of a type if it is `known`, otherwise the broader type that it belongs to, if known.

    "Bands" resolve to neutrophils where band neutrophils are unknown; a name that is not known at all comes back in its
    canonical form.
    """
    own = canonical(name)
    return next((label for label in (own, BROADER.get(own, own)) if label in known), own)


@dataclass(frozen=True)
class LabelSpace:
    """The classes that a model distinguishes, and coarse labels that stand for several of them.

    A label is treated as the set of classes that it allows. A coarse label ("non-blast") allows several and a missing
    label allows all, so both enter losses and metrics without special cases. A label finer than the classes ("band
    neutrophil" where the class is "neutrophil") allows the class that it belongs to.
    """

    classes: tuple[str, ...]
    """Class names in the order of the model's outputs; at least two, all distinct."""

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
        """All labels that the space accepts: its classes, coarse labels, and those finer than one of these."""
        finer = (fine for fine, broad in BROADER.items() if broad in (*self.classes, *self.coarse))
        return tuple(dict.fromkeys((*self.classes, *self.coarse, *finer)))

    def resolve(self, label: str) -> str:
        """Return the label itself if it is a class or a coarse label, otherwise the broader label it belongs to.

        Raises
        ------
        LabelError
            If the label belongs to no class.
        """
        for name in (label, BROADER.get(label, label)):
            if name in self.classes or name in self.coarse:
                return name
        raise LabelError(
            f"label {label!r} is in no class (known labels: {', '.join(self.known)}); correct it or name other classes"
        )

    def broaden(self, label: str) -> str:
        """Return the broader label that `label` belongs to, if the space knows it, otherwise the label itself."""
        broad = BROADER.get(label, label)
        return broad if broad in self.known else label

    def members(self, label: str) -> tuple[str, ...]:
        """Return the classes that `label` allows.

        Raises
        ------
        LabelError
            If the label belongs to no class.
        """
        name = self.resolve(label)
        return (name,) if name in self.classes else tuple(self.coarse[name])

    def allowed(self, label: str | None) -> "NDArray[np.bool_]":
        """Mark the classes that `label` allows: bool, shape (C,); all of them when the label is missing."""
        import numpy as np  # the settings use label spaces and must load quickly

        members = self.classes if label is None else self.members(label)
        return np.isin(self.classes, members)

    def broad_confidence(self, probabilities: "NDArray[np.floating]") -> "NDArray[np.float64]":
        """Return the probability of the broader type to which the most probable class belongs, in [0, 1].

        A neutrophil of which only the stage is doubtful, segmented or band, is certainly a neutrophil.

        Parameters
        ----------
        probabilities
            Of the classes, (N, C).

        Returns
        -------
        float64 (N,)
        """
        import numpy as np

        summed = (probabilities * self._alike[np.argmax(probabilities, axis=1)]).sum(axis=1, dtype=float)
        return np.asarray(np.minimum(summed, 1.0), float)

    @cached_property
    def _alike(self) -> "NDArray[np.bool_]":
        """Mark the pairs of classes that belong to the same broader type, (C, C)."""
        import numpy as np

        broad = np.array([BROADER.get(name, name) for name in self.classes])
        return np.asarray(broad[:, None] == broad)

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-ready dictionary."""
        return {"classes": list(self.classes), "coarse": {name: list(members) for name, members in self.coarse.items()}}


def with_broad_labels(classes: Iterable[str], coarse: Mapping[str, tuple[str, ...]] | None = None) -> LabelSpace:
    """Return a label space that adds the broad labels whose subtypes are all among its classes."""
    own = tuple(classes)
    broad = {name: fine for name, fine in SUBTYPES.items() if name not in own and set(fine) <= set(own)}
    return LabelSpace(own, {**broad, **(coarse or {})})


WBC5 = LabelSpace(FIVE_TYPES)
WBC6 = LabelSpace((*FIVE_TYPES, BLAST), {NON_BLAST: FIVE_TYPES})
MATURE = (SEGMENTED, BAND, EOSINOPHIL, BASOPHIL, LYMPHOCYTE, MONOCYTE)
WBC11 = with_broad_labels((*MATURE, *SUBTYPES[IMMATURE_GRANULOCYTE], ERYTHROBLAST, NO_WHITE_CELL))
WBC12 = with_broad_labels((*WBC11.classes, BLAST), {NON_BLAST: MATURE})
BLAST_OR_NOT = LabelSpace((NON_BLAST, BLAST), {})
PRESETS: Mapping[str, LabelSpace] = {
    "wbc5": WBC5,
    "wbc6": WBC6,
    "wbc11": WBC11,
    "wbc12": WBC12,
    "blast": BLAST_OR_NOT,
}


def smallest_label_space(labels: Iterable[str | None]) -> LabelSpace:
    """Return the smallest preset that accepts all `labels` and whose subtypes all occur among them.

    Segmented and band neutrophils beside the other four types give the five types. Where no preset accepts every label,
    the space is built from the labels: a broad label stands for its subtypes if all of them occur, and otherwise
    replaces those that do; everything that is no white cell becomes one class.

    Raises
    ------
    LabelError
        If there are fewer than two distinct labels and no preset covers them.
    """
    present = {label for label in labels if label is not None}
    for space in (WBC5, BLAST_OR_NOT, WBC6, WBC11, WBC12):
        if present <= set(space.known) and present.issuperset(name for name in space.classes if name in BROADER):
            return space
    merged = {NO_WHITE_CELL if BROADER.get(label) == NO_WHITE_CELL else label for label in present}
    split = {broad for broad, fine in SUBTYPES.items() if merged.issuperset(fine)}
    return with_broad_labels(sorted(label for label in merged - split if BROADER.get(label) not in merged - split))
