"""Counts of finished work, summed over shards and slides."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


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
    """Time by stage (gate, read, prior, network, stitch, cells, write, pyramid), s, summed over workers."""

    def __add__(self, other: "Tally") -> "Tally":
        """Sum two tallies."""
        return Tally(
            self.passes + other.passes,
            self.tiles + other.tiles,
            self.skipped + other.skipped,
            Counter(self.cells) + Counter(other.cells),
            Counter(self.seconds) + Counter(other.seconds),
        )
