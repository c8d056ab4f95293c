"""What a module of this package defines."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Export:
    """A format in which other systems take a slide's results."""

    file: str
    """Name of the file or folder that is written, in the slide's folder."""
    write: Callable[[Path], Path]
    """Writes it from the results in a slide's folder; the same results give the same bytes."""
