"""Counts of finished work, summed over shards and slides."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Progress = Callable[[int, int], None]
"""Called with the number of items that are done, and of all."""

STAGES = {
    "see": "statistics of the slide, and its checksum",
    "gate": "look from afar at each part",
    "read": "tiles and cells, beside the network",
    "prior": "saliency, beside the network",
    "network": "segmentation and classification",
    "stitch": "tiles to label images",
    "cells": "label images to cells",
    "write": "label images to files",
    "pyramid": "coarser levels of label images",
    "tables": "cells.parquet and cells.geojson",
    "report": "differential, overview and page",
    "idle": "workers that start, load the model, or wait",
}
"""Where the time of a slide goes."""


@dataclass(frozen=True)
class Tally:
    """Work done on a shard, a slide or a batch; tallies add up."""

    passes: int = 0
    """Passes over shards: a shard is done after two, segmentation and classification."""
    tiles: int = 0
    """Tiles that the network segmented."""
    skipped: int = 0
    """Further tiles that reading the whole slide would have needed."""
    cells: Mapping[str, int] = field(default_factory=dict)
    """Cells found, by type."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time by stage, s, summed over workers; `STAGES` says what they are."""
    busy: float = 0.0
    """Time that workers spent on tasks, s; less than that of the stages, of which some run side by side."""
    workers: frozenset[str] = frozenset()
    """The workers that did it."""

    def __add__(self, other: "Tally") -> "Tally":
        """Sum two tallies."""
        return Tally(
            self.passes + other.passes,
            self.tiles + other.tiles,
            self.skipped + other.skipped,
            Counter(self.cells) + Counter(other.cells),
            Counter(self.seconds) + Counter(other.seconds),
            self.busy + other.busy,
            self.workers | other.workers,
        )

    def where_time_went(self, elapsed: float) -> dict[str, float]:
        """Return the time by stage, the longest first, s, with that in which workers waited.

        Parameters
        ----------
        elapsed
            Time for which the workers were there, s.
        """
        idle = {"idle": max(0.0, len(self.workers) * elapsed - self.busy)} if self.workers else {}
        return dict(sorted((dict(self.seconds) | idle).items(), key=lambda item: -item[1]))
