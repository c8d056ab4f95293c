"""Results in the formats of other systems: one module each, which defines `EXPORT`."""

import importlib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from sgcldff.core.errors import InputError
from sgcldff.results.exports.base import Export

__all__ = ["FORMATS", "Export", "export_named", "require_exports", "update_exports"]

FORMATS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"))
"""Names of the formats, whose modules are imported when they are used."""


def export_named(name: str) -> Export:
    """Return a format of `FORMATS`."""
    return cast(Export, importlib.import_module(f"{__name__}.{name}").EXPORT)


def require_exports(names: Iterable[str]) -> None:
    """Raise `InputError` if a format is unknown."""
    for name in names:
        if name not in FORMATS:
            raise InputError(f"format {name!r} is unknown: name one or more of {', '.join(FORMATS)}, with commas")


def update_exports(folder: Path) -> None:
    """Write the files of other formats that lie in a slide's folder again, after people reviewed or signed it.

    Raises
    ------
    InputError
        If results are missing or damaged.
    """
    for export in map(export_named, FORMATS):
        if (folder / export.file).exists():
            export.write(folder)
