"""The benchmark's outcome: everything in one record, as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sgcldff.benchmark.protocols import Protocol
from sgcldff.benchmark.scoring import Entry
from sgcldff.benchmark.speed import Size
from sgcldff.core.errors import InputError
from sgcldff.core.records import Sample, Split


@dataclass(frozen=True)
class Count:
    """How many images a data set has in a split."""

    source: str
    split: Split
    images: int
    groups: int
    """Patients, slides or clusters of near-duplicates."""
    labelled: int
    masked: int


def counts(samples: Sequence[Sample]) -> Iterator[Count]:
    """Count images by data set and split."""
    for source, split in sorted({(sample.source, sample.split) for sample in samples}):
        own = [sample for sample in samples if (sample.source, sample.split) == (source, split)]
        labelled = sum(sample.label is not None for sample in own)
        masked = sum(sample.mask is not None for sample in own)
        yield Count(source, split, len(own), len({sample.group for sample in own}), labelled, masked)


@dataclass(frozen=True)
class CellRecord:
    """One training and where its results lie, as paths below the benchmark's folder."""

    contender: str
    seed: int
    without: str
    """Data set that it never saw; empty where it saw all."""
    left: str = ""
    """What is still to be done, in words; empty where it is finished."""
    training: str = ""
    evaluation: str = ""
    run: str = ""
    """Of MLflow."""


@dataclass(frozen=True)
class Table:
    """What was compared, how, and what came out."""

    head: Mapping[str, str]
    """What was run, in words: name -> what."""
    contenders: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    sources: tuple[str, ...]
    seeds: int
    counts: tuple[Count, ...]
    sizes: tuple[Size, ...]
    entries: tuple[Entry, ...]
    cells: tuple[CellRecord, ...]
    priors_per_s: float | None = None
    """Crops a second whose priors are computed; None if it was not timed."""
    notes: tuple[str, ...] = ()
    version: int = 1

    @property
    def unfinished(self) -> tuple[CellRecord, ...]:
        """Trainings of which something is left to do."""
        return tuple(cell for cell in self.cells if cell.left)

    def of(self, protocol: Protocol, data: str, figure: str) -> dict[str, Entry]:
        """Give a column: contender -> entry."""
        column = (protocol, data, figure)
        return {one.contender: one for one in self.entries if (one.protocol, *one.place) == column}

    def to_json(self) -> str:
        """Write everything; `from_json` reads it back."""
        return json.dumps(self.to_dict(), indent=1)

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> "Table":
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            If it is no table of this version.
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise InputError(f"not a benchmark's table of this version ({error}); run the benchmark again") from error
