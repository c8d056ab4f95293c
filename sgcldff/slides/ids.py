"""Ids of slides that are unique in a batch and safe as names of folders."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping

from sgcldff.core.errors import InputError
from sgcldff.slides.content import stem

MAX_BYTES = 120
"""Largest length of an id, bytes; file systems allow 255, and temporary names and extensions add to it."""
FORBIDDEN = re.compile(r'[/\\:*?"<>|%]')
"""Printable characters that separate folders, or have a meaning in some file system or address."""
UNSAFE_START = re.compile(r"^[\s.~=+@-]")
"""What hides a file, looks like an option, or starts a formula in a spreadsheet."""
UNSAFE_END = re.compile(r"[\s.]$")
RESERVED = ("batch.html", "batch.parquet")
"""Files beside the folders of slides."""
SHORT_HASH, FULL_HASH = 8, 64

Trail = tuple[str, ...]
"""Names of the folders that lead to a slide, followed by its file name."""


def safe_name(text: str) -> str:
    """Return a name that is safe for a folder: one component, printable, not hidden, of 1 to 120 bytes.

    Unsafe characters become "_"; a name that is too long is cut and made unique by a hash of the full name.
    """
    normal = unicodedata.normalize("NFC", text)
    printable = normal if normal.isprintable() else "".join(char if char.isprintable() else "_" for char in normal)
    name = UNSAFE_END.sub("_", UNSAFE_START.sub("_", FORBIDDEN.sub("_", printable))) or "slide"
    name += "_" * (name.casefold() in RESERVED)
    if len(name.encode()) <= MAX_BYTES:
        return name
    kept = name.encode()[: MAX_BYTES - 2 * SHORT_HASH].decode(errors="ignore")
    return f"{kept.rstrip(' .')}-{_hash(text, SHORT_HASH)}"


def distinct_ids(trails: Mapping[str, Trail], given: Mapping[str, str]) -> dict[str, str]:
    """Return ids of slides: their file names, with as many of their folders as are needed to make them unique.

    `a/x.svs` and `b/x.svs` become `a-x` and `b-x`; `a/x.svs` and `a/x.tif` become `x.svs` and `x.tif`; slides that
    folders and extension do not distinguish get a hash of their address. Case does not make names distinct, since some
    file systems ignore it. The ids do not depend on the order of the slides. A slide added to a batch may only change
    the ids of slides with which it collides.

    Parameters
    ----------
    trails
        Trails by address.
    given
        Ids chosen by the user, by address; they are used after being made safe.

    Raises
    ------
    InputError
        If two slides were given the same id.
    """
    ids = {uri: safe_name(name) for uri, name in given.items()}
    _require_distinct(ids)
    taken = {_folded(name) for name in ids.values()}
    plain = {uri: _id_of(trails[uri]) for uri in sorted(trails.keys() - ids.keys())}
    groups = defaultdict(list)
    for uri, name in plain.items():
        groups[_folded(name)].append(uri)
    alone = {name: uris[0] for name, uris in groups.items() if len(uris) == 1 and name not in taken}
    ids |= {uri: plain[uri] for uri in alone.values()}
    taken |= alone.keys()
    for name in sorted(groups.keys() - alone.keys()):
        chosen = _distinguished({uri: trails[uri] for uri in groups[name]}, taken)
        taken |= {_folded(one) for one in chosen.values()}
        ids |= chosen
    return ids


def _distinguished(trails: Mapping[str, Trail], taken: set[str]) -> dict[str, str]:
    """Return the shortest names that are distinct within a group of slides, and from those already taken."""
    for names in _candidate_names(trails):
        folded = {_folded(name) for name in names.values()}
        if len(folded) == len(trails) and folded.isdisjoint(taken):
            return names
    raise InputError(f"{', '.join(trails)}: cannot be distinguished; give them ids in a list (column id)")


def _candidate_names(trails: Mapping[str, Trail]) -> Iterator[dict[str, str]]:
    """Yield names for a group, shortest first."""
    depth = max(map(len, trails.values()))
    for with_extension in (False, True):
        for folders in range(depth):
            yield {uri: _id_of(trail, folders, with_extension) for uri, trail in trails.items()}
    for length in (SHORT_HASH, FULL_HASH):
        yield {uri: f"{_id_of(trail)[: MAX_BYTES // 10]}-{_hash(uri, length)}" for uri, trail in trails.items()}


def _id_of(trail: Trail, folders: int = 0, with_extension: bool = False) -> str:
    """Join the names of the last folders and the file name, with or without its extension."""
    *above, file = trail
    name = file if with_extension else stem(file)
    return safe_name("-".join((*above[max(0, len(above) - folders) :], name)))


def _require_distinct(ids: Mapping[str, str]) -> None:
    owners: dict[str, str] = {}
    for uri, name in sorted(ids.items()):
        other = owners.setdefault(_folded(name), uri)
        if other != uri:
            raise InputError(f"{other} and {uri} were both given the id {name!r}: give every slide its own")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _hash(text: str, length: int) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:length]
