"""A model's predictions of images as a table, from which scores and comparisons are computed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgcldff.core.errors import InputError, StoreError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.parquet_file import read_table, write_table
from sgcldff.core.records import PROBABILITY
from sgcldff.core.settings import digest
from sgcldff.counting.confusion import Confusion
from sgcldff.evaluation.metrics import Boundary, Doubles, Overlap

LAYOUT = "predictions/3"
TRUTH = ("id", "source", "group", "sha256", "mask_sha256", "label")
"""Columns that identify the images and their ground truth."""
PREDICTED = "told"
"""Column of the predicted label, under the name that it has in files."""
PIXEL_COUNTS: Mapping[str, tuple[str, ...]] = {
    f"{part}_{kind}": tuple(counts.__dataclass_fields__)
    for kind, counts in (("", Overlap), ("boundary_", Boundary))
    for part in ("cell", "nucleus")
}
"""Columns that count pixels: their beginnings, and the endings of each."""


@dataclass(frozen=True)
class Predictions:
    """One row per image, of `schema(classes)`, ordered by image id."""

    classes: tuple[str, ...]
    """The model's classes, in the order of its outputs."""
    model: str
    """Digest of the model's weights."""
    table: pa.Table

    @cached_property
    def truth(self) -> str:
        """Digest of images, masks, groups and labels: two models are comparable if it is the same."""
        return digest(self.table.select(list(TRUTH)).to_pydict())

    @property
    def groups(self) -> list[str]:
        """Patient or slide of every row, prefixed by the data set."""
        return [f"{source}/{group}" for source, group in zip(self.column("source"), self.column("group"), strict=True)]

    def column(self, name: str) -> list[str]:
        """Return a column of text."""
        return list(self.table.column(name).to_pylist())

    def numbers(self, name: str) -> Doubles:
        """Return a numeric column as float64, NaN where it is null."""
        return np.array([np.nan if value is None else value for value in self.table.column(name).to_pylist()], float)

    def counts(self, start: str) -> tuple[Doubles, ...]:
        """Return the columns of `PIXEL_COUNTS` with this beginning, each (N,), NaN where the truth is insufficient."""
        return tuple(self.numbers(start + name) for name in PIXEL_COUNTS[start])

    @property
    def probabilities(self) -> Doubles:
        """Probabilities of the model's classes, (N, C)."""
        return np.column_stack([self.numbers(PROBABILITY + name) for name in self.classes])

    @property
    def confusion(self) -> Confusion:
        """The cells whose true type is one of the model's classes, with what the model predicted for them."""
        known = np.array([label in self.classes for label in self.column("label")], bool)
        true = (self.classes.index(label) for label in self.column("label") if label in self.classes)
        predicted = self.probabilities[known].argmax(axis=1) if known.any() else []
        confidence = self.broad_confidence[known]
        return Confusion(self.classes, tuple(true), tuple(map(int, predicted)), tuple(map(float, confidence)))

    @property
    def broad_confidence(self) -> Doubles:
        """What a limit of confidence is applied to, (N,): see `LabelSpace.broad_confidence`."""
        return LabelSpace(self.classes).broad_confidence(self.probabilities)

    def of(self, source: str) -> "Predictions":
        """Return the rows of one data set."""
        rows = pa.array([name == source for name in self.column("source")], pa.bool_())
        return Predictions(self.classes, self.model, self.table.filter(rows))

    def save(self, path: str | Path) -> Path:
        """Write the table as Parquet."""
        return write_table(path, self.table)

    @classmethod
    def open(cls, path: str | Path) -> "Predictions":
        """Read what `save` wrote.

        Raises
        ------
        MissingInputError
            If there is no such file.
        InputError
            If it is not a table of predictions of this version.
        """
        try:
            table = read_table(path, "evaluate the model again")
        except StoreError as error:
            raise InputError(f"{error}") from error
        metadata = table.schema.metadata or {}
        if metadata.get(b"sgcldff.layout") != LAYOUT.encode():
            raise InputError(f"{path}: not a table of layout {LAYOUT}; evaluate the model again")
        classes = (name.removeprefix(PROBABILITY) for name in table.column_names if name.startswith(PROBABILITY))
        return cls(tuple(classes), metadata[b"sgcldff.model"].decode(), table)


def schema(classes: Iterable[str], model: str = "") -> pa.Schema:
    """Return the schema: truth, prediction, pixel counts (null where the truth is insufficient), explanation.

    `typicality` is null where it is not measured.
    """
    text, count, number = pa.string(), pa.int64(), pa.float64()
    columns = [
        *((name, text) for name in (*TRUTH, PREDICTED)),
        ("confidence", number),
        ("typicality", number),
        ("found", pa.bool_()),
        *((start + name, count) for start, names in PIXEL_COUNTS.items() for name in names),
        ("cam_on_cell", number),
        ("occlusion", number),
        *((PROBABILITY + name, number) for name in classes),
    ]
    return pa.schema(columns, metadata={"sgcldff.layout": LAYOUT, "sgcldff.model": model})


@dataclass(frozen=True)
class AnswerLabels:
    """The labels among which a prediction is made for one data set.

    If a data set uses a coarse label ("non-blast") and none of the classes that it covers, their probabilities are
    summed. Classes that the data set does not use are kept, so that predicting one of them is an error.
    """

    names: tuple[str, ...]
    members: NDArray[np.bool_]
    """Classes that each label covers, (K, C)."""

    @classmethod
    def for_labels(cls, labels: Iterable[str | None], space: LabelSpace) -> "AnswerLabels":
        """Choose the labels for a data set in which these labels occur."""
        used = {label: space.allowed(label) for label in sorted({label for label in labels if label is not None})}
        merged = [
            name
            for name in used
            if name in space.coarse and not any((used[name] & used[other]).any() for other in used if other != name)
        ]
        covered = {member for name in merged for member in space.members(name)}
        names = (*(name for name in space.classes if name not in covered), *merged)
        return cls(names, np.stack([space.allowed(name) for name in names]))

    def predict(self, probabilities: NDArray[np.floating], label: str | None, space: LabelSpace) -> tuple[str, float]:
        """Return the most probable label and its probability; one that the true label allows becomes the true label."""
        summed = self.members @ np.asarray(probabilities, float)
        best = int(summed.argmax())
        correct = label is not None and bool((space.allowed(label) | ~self.members[best]).all())
        return (label if correct and label is not None else self.names[best]), float(min(summed[best], 1.0))


def tabulate(rows: Iterable[Mapping[str, object]], classes: tuple[str, ...], model: str) -> Predictions:
    """Make a table of rows, sorted by image id."""
    ordered = sorted(rows, key=lambda row: str(row["id"]))
    return Predictions(classes, model, pa.Table.from_pylist(ordered, schema(classes, model)))
