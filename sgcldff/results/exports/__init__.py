"""Results in the formats of other systems: one module each, which defines `EXPORT`."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.results.exports.base import Export

__all__ = ["EXPORTS", "Export", "require_exports", "update_exports"]


def _found() -> Mapping[str, Export]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")
    return {name: importlib.import_module(f"{__name__}.{name}").EXPORT for name in names}


EXPORTS: Mapping[str, Export] = _found()
"""Name -> format, in alphabetical order."""


def require_exports(names: Iterable[str]) -> None:
    """Raise `InputError` if a format is unknown."""
    for name in names:
        if name not in EXPORTS:
            raise InputError(f"format {name!r} is unknown: name one or more of {', '.join(EXPORTS)}, with commas")


def update_exports(folder: Path) -> None:
    """Write the files of other formats that lie in a slide's folder again, after people reviewed or signed it.

    Raises
    ------
    InputError
        If results are missing or damaged.
    """
    for export in EXPORTS.values():
        if (folder / export.file).exists():
            export.write(folder)
