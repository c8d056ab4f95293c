"""What a module of this package defines."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def nothing_to_prepare(folder: Path, slide: Path) -> None:
    """Accept any slide."""


@dataclass(frozen=True)
class Export:
    """A format in which other systems take a slide's results."""

    file: str
    """Name of the file or folder that is written, in the slide's folder."""
    write: Callable[[Path], Path]
    """Writes it from the results in a slide's folder; the same results give the same bytes."""
    prepare: Callable[[Path, Path], None] = nothing_to_prepare
    """Called with the folder and the slide's file before it is read, to keep what is needed of it, or to refuse it."""
