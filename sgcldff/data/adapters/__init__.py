"""Adapters that read public data sets, folders and tables: one module each, which defines `ADAPTER`."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.records import Sample
from sgcldff.data.adapters.base import Adapter, Download, PublishedSize, Rejected, entries_in

__all__ = ["ADAPTERS", "AUTO", "Adapter", "Download", "PublishedSize", "Rejected", "Source", "adapter", "detect"]

AUTO = "auto"
"""Not an adapter: stands for all known data sets below a folder."""
NOT_ADAPTERS = ("download",)
"""Modules of this package that only use adapters; they are not imported with the others, since they load more."""
MAX_DEPTH = 4
"""Levels of subfolders that `detect` searches."""


def adapter(name: str) -> Adapter:
    """Return the adapter of that name.

    Raises
    ------
    InputError
        If there is no such adapter.
    """
    if name not in ADAPTERS:
        raise InputError(f"adapter {name!r} is unknown: name one of {', '.join(ADAPTERS)}")
    return ADAPTERS[name]


@dataclass(frozen=True)
class Source:
    """A folder and the adapter that reads it."""

    adapter: str
    folder: str
    """Path, or, before `sgcldff.data.mirror.mirrored` copies it, a URL such as `s3://bucket/prefix`."""
    mpp: float | None = None
    """um/px; None uses the adapter's own."""

    @property
    def published(self) -> PublishedSize | None:
        """Size that images must have for the adapter's scale to apply; None if the scale was given explicitly.

        Raises
        ------
        InputError
            If the adapter is unknown.
        """
        return adapter(self.adapter).published if self.mpp is None else None

    def resolved(self) -> tuple["Source", ...]:
        """Replace `auto` by the known data sets below the folder; `mpp` then applies to those without a scale.

        Raises
        ------
        InputError
            As for `detect`.
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
            If the adapter is unknown, or the folder lacks what the adapter needs.
        """
        reader = adapter(self.adapter)
        return (reader if self.mpp is None else replace(reader, mpp=self.mpp)).scan(Path(self.folder).resolve())


def detect(folder: str | Path) -> tuple[Source, ...]:
    """Find the known data sets in `folder` and below it.

    Raises
    ------
    InputError
        If there are none, or the folder is empty or missing.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingInputError(f"{root}: no such folder; name the one with your images")
    if not any(True for _ in entries_in(root)):
        raise InputError(f"{root}: is empty; put images or a data set into it")
    found = tuple(_below(root, MAX_DEPTH))
    if not found:
        names = ", ".join(ADAPTERS)
        raise InputError(f"{root}: contains no known data set ({names}); name the adapter, such as 'folder' or 'table'")
    return found


def _below(folder: Path, depth: int) -> Iterator[Source]:
    here = [Source(item.name, str(folder)) for item in ADAPTERS.values() if item.recognises(folder)]
    yield from here
    if here or depth == 0:
        return
    for below in sorted(path for path in entries_in(folder) if path.is_dir() and not path.name.startswith(".")):
        yield from _below(below, depth - 1)


def _all_adapters() -> Mapping[str, Adapter]:
    names = (module.name for module in pkgutil.iter_modules(__path__) if module.name not in NOT_ADAPTERS)
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    adapters = [module.ADAPTER for module in modules if hasattr(module, "ADAPTER")]
    return {item.name: item for item in adapters}


ADAPTERS: Mapping[str, Adapter] = _all_adapters()
"""All adapters by name: every module of this package that defines `ADAPTER`."""
