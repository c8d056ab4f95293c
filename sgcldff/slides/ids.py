"""Names of slides that are distinct in a batch and safe as names of folders."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping

from sgcldff.core.errors import InputError
from sgcldff.slides.content import stem

LONGEST = 120
"""Bytes of an id; file systems take 255, and drafts and extensions need room beside it."""
FORBIDDEN = re.compile(r'[/\\:*?"<>|%]')
"""Printable characters that separate folders, or that some file system or address gives a meaning."""
FIRST = re.compile(r"^[\s.~-]")
LAST = re.compile(r"[\s.]$")
RESERVED = ("batch.html", "batch.parquet")
"""Files that lie beside the folders of slides."""
SHORT_HASH, WHOLE_HASH = 8, 64

Trail = tuple[str, ...]
"""Names of the folders that lead to a slide, and last its file's name."""


def safe_name(text: str) -> str:
    """Make a name that is safe for a folder: one component, printable, not hidden, of 1 to 120 bytes.

    What is not safe becomes "_"; what is too long is cut, and a hash of the whole keeps it apart from others.
    """
    normal = unicodedata.normalize("NFC", text)
    plain = normal if normal.isprintable() else "".join(sign if sign.isprintable() else "_" for sign in normal)
    name = LAST.sub("_", FIRST.sub("_", FORBIDDEN.sub("_", plain))) or "slide"
    name += "_" * (name.casefold() in RESERVED)
    if len(name.encode()) <= LONGEST:
        return name
    kept = name.encode()[: LONGEST - 2 * SHORT_HASH].decode(errors="ignore")
    return f"{kept.rstrip(' .')}-{_hash(text, SHORT_HASH)}"


def distinct_ids(trails: Mapping[str, Trail], given: Mapping[str, str]) -> dict[str, str]:
    """Name slides: by their file, and where that is not distinct, by as many of their folders as are needed.

    `a/x.svs` and `b/x.svs` become `a-x` and `b-x`; `a/x.svs` and `a/x.tif` become `x.svs` and `x.tif`; what folders and
    extension do not tell apart gets a hash of its address. Capitals do not make names distinct, since not all file
    systems know them. The ids do not depend on the order of the slides. A slide that joins the batch may change the ids
    of those with which it collides, and of no others.

    Parameters
    ----------
    trails
        By address.
    given
        Ids that the user chose, by address; they hold, made safe.

    Raises
    ------
    InputError
        If two slides were given the same id.
    """
    ids = {uri: safe_name(name) for uri, name in given.items()}
    _require_distinct(ids)
    taken = {_folded(name) for name in ids.values()}
    plain = {uri: _named(trails[uri]) for uri in sorted(trails.keys() - ids.keys())}
    groups = defaultdict(list)
    for uri, name in plain.items():
        groups[_folded(name)].append(uri)
    alone = {name: uris[0] for name, uris in groups.items() if len(uris) == 1 and name not in taken}
    ids |= {uri: plain[uri] for uri in alone.values()}
    taken |= alone.keys()
    for name in sorted(groups.keys() - alone.keys()):
        chosen = _told_apart({uri: trails[uri] for uri in groups[name]}, taken)
        taken |= {_folded(one) for one in chosen.values()}
        ids |= chosen
    return ids


def _told_apart(trails: Mapping[str, Trail], taken: set[str]) -> dict[str, str]:
    """Take the shortest kind of name under which all slides of a group are distinct."""
    for names in _ladder(trails):
        folded = {_folded(name) for name in names.values()}
        if len(folded) == len(trails) and folded.isdisjoint(taken):
            return names
    raise InputError(f"{', '.join(trails)}: cannot be told apart; give them ids in a list (column id)")


def _ladder(trails: Mapping[str, Trail]) -> Iterator[dict[str, str]]:
    """Yield names for a group, shortest first."""
    depth = max(map(len, trails.values()))
    for whole in (False, True):
        for folders in range(depth):
            yield {uri: _named(trail, folders, whole) for uri, trail in trails.items()}
    for length in (SHORT_HASH, WHOLE_HASH):
        yield {uri: f"{_named(trail)[: LONGEST // 10]}-{_hash(uri, length)}" for uri, trail in trails.items()}


def _named(trail: Trail, folders: int = 0, whole: bool = False) -> str:
    """Join the file's name, with its extension if `whole`, to the names of the folders right above it."""
    *above, file = trail
    name = file if whole else stem(file)
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
