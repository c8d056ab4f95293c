"""The results of a benchmark in one record, as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from sgcldff.benchmark.protocols import Protocol
from sgcldff.benchmark.scoring import ScoreEntry
from sgcldff.benchmark.speed import ModelSize
from sgcldff.core.records import Sample, Split


@dataclass(frozen=True)
class ImageCount:
    """Images of a data set in a split."""

    source: str
    split: Split
    images: int
    groups: int
    """Patients, slides or clusters of near-duplicates."""
    labelled: int
    masked: int


def image_counts(samples: Sequence[Sample]) -> Iterator[ImageCount]:
    """Count images by data set and split."""
    for source, split in sorted({(sample.source, sample.split) for sample in samples}):
        own = [sample for sample in samples if (sample.source, sample.split) == (source, split)]
        labelled = sum(sample.label is not None for sample in own)
        masked = sum(sample.mask is not None for sample in own)
        yield ImageCount(source, split, len(own), len({sample.group for sample in own}), labelled, masked)


@dataclass(frozen=True)
class TrainingEntry:
    """One training with the paths of its results, relative to the benchmark's folder."""

    candidate: Annotated[str, Field(alias="contender")]
    seed: int
    without: str
    """Data set that is left out; empty if all are used."""
    left: str = ""
    """What is still to be done; empty if it is finished."""
    training: str = ""
    evaluation: str = ""
    run: str = ""
    """Id of the MLflow run."""


@dataclass(frozen=True)
class BenchmarkTable:
    """Configuration and results of a benchmark."""

    head: Mapping[str, str]
    """Description of the benchmark: name -> text."""
    candidates: Annotated[tuple[str, ...], Field(alias="contenders")]
    protocols: tuple[Protocol, ...]
    sources: tuple[str, ...]
    seeds: int
    counts: tuple[ImageCount, ...]
    sizes: tuple[ModelSize, ...]
    entries: tuple[ScoreEntry, ...]
    trainings: Annotated[tuple[TrainingEntry, ...], Field(alias="cells")]
    priors_per_s: float | None = None
    """Crops per second for which priors are computed; None if it was not timed."""
    notes: tuple[str, ...] = ()
    version: int = 1

    @property
    def unfinished(self) -> tuple[TrainingEntry, ...]:
        """Trainings that are not finished."""
        return tuple(training for training in self.trainings if training.left)

    def of(self, protocol: Protocol, data: str, figure: str) -> dict[str, ScoreEntry]:
        """Return a column: candidate -> entry."""
        column = (protocol, data, figure)
        return {one.candidate: one for one in self.entries if (one.protocol, *one.column) == column}

    def to_json(self) -> str:
        """Write everything."""
        return json.dumps(self.to_dict(), indent=1)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        plain: dict[str, Any] = TypeAdapter(BenchmarkTable).dump_python(self, mode="json", by_alias=True)
        return plain
