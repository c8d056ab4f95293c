"""Adapters that read public data sets, folders and tables: one module each, with an `ADAPTER`."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.records import Sample
from sgcldff.data.adapters.base import Adapter, Download, PublishedSize, Rejected, entries

__all__ = ["ADAPTERS", "AUTO", "Adapter", "Download", "PublishedSize", "Rejected", "Source", "adapter", "detect"]

AUTO = "auto"
"""Name of no adapter: it stands for all known data sets below a folder."""
USERS = ("fetch",)
"""Modules here that use adapters and define none; they are not imported with the others, since they load more."""
DEPTH = 4
"""Folders below the one given in which `detect` still looks."""


def adapter(name: str) -> Adapter:
    """Look an adapter up.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in ADAPTERS:
        raise InputError(f"adapter {name!r} is unknown: name one of {', '.join(ADAPTERS)}")
    return ADAPTERS[name]


@dataclass(frozen=True)
class Source:
    """A folder and the adapter that reads it."""

    adapter: str
    folder: str
    """Path, or, where `sgcldff.data.mirror.landed` is asked first, a URL such as `s3://bucket/prefix`."""
    mpp: float | None = None
    """um/px; None takes the adapter's own."""

    @property
    def published(self) -> PublishedSize | None:
        """Size that images must have for the adapter's scale to be theirs; None where the scale was given.

        Raises
        ------
        InputError
            If the adapter is unknown.
        """
        return adapter(self.adapter).published if self.mpp is None else None

    def resolved(self) -> tuple["Source", ...]:
        """Put the known data sets below the folder in the place of `auto`; `mpp` then holds where they know none.

        Raises
        ------
        InputError
            As `detect`.
        """
        if self.adapter != AUTO:
            return (self,)
        found = detect(self.folder)
        return tuple(replace(one, mpp=self.mpp) if ADAPTERS[one.adapter].mpp is None else one for one in found)

    def scan(self) -> Iterator[Sample | Rejected]:
        """Find the samples; paths are absolute.

        Raises
        ------
        InputError
            If the adapter is unknown, or the folder lacks what it needs.
        """
        reader = adapter(self.adapter)
        return (reader if self.mpp is None else replace(reader, mpp=self.mpp)).scan(Path(self.folder).resolve())


def detect(folder: str | Path) -> tuple[Source, ...]:
    """Find the known data sets in `folder` and below it.

    Raises
    ------
    InputError
        If there is none, or the folder is empty or missing.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingInputError(f"{root}: no such folder; name the one that holds your images")
    if not any(True for _ in entries(root)):
        raise InputError(f"{root}: is empty; put images or a data set into it")
    found = tuple(_below(root, DEPTH))
    if not found:
        names = ", ".join(ADAPTERS)
        raise InputError(f"{root}: holds no known data set ({names}); name the adapter, such as 'folder' or 'table'")
    return found


def _below(folder: Path, depth: int) -> Iterator[Source]:
    here = [Source(item.name, str(folder)) for item in ADAPTERS.values() if item.recognises(folder)]
    yield from here
    if here or depth == 0:
        return
    for below in sorted(path for path in entries(folder) if path.is_dir() and not path.name.startswith(".")):
        yield from _below(below, depth - 1)


def _registered() -> Mapping[str, Adapter]:
    names = (found.name for found in pkgutil.iter_modules(__path__) if found.name not in USERS)
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    adapters = [module.ADAPTER for module in modules if hasattr(module, "ADAPTER")]
    return {item.name: item for item in adapters}


ADAPTERS: Mapping[str, Adapter] = _registered()
"""All adapters by name: every module of this package that defines `ADAPTER`."""
