"""Splits by group that never move: linked images share a side, and images that came first keep theirs."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sgcldff.core.records import Split
from sgcldff.core.settings import SplitSpec

PRIORITY = (Split.TEST, Split.VAL, Split.TRAIN, Split.UNASSIGNED)
"""Where images that are linked by now hold different sides, the ones named first keep theirs."""

Stratum = tuple[str, str]
"""Data set and label."""


@dataclass(frozen=True)
class Entry:
    """What a split has to know of an image."""

    key: str
    """Digest of its pixels."""
    name: str
    group: str
    """Patient or slide, as its data set tells."""
    stratum: Stratum
    held: Split = Split.UNASSIGNED
    """The side it was on before."""


@dataclass
class _Forest:
    """Disjoint sets that remember the side that each is on."""

    parents: dict[object, object] = field(default_factory=dict)
    sides: dict[object, Split] = field(default_factory=dict)

    def root(self, node: object) -> object:
        while (parent := self.parents.setdefault(node, node)) != node:
            self.parents[node] = node = self.parents[parent]
        return node

    def side(self, node: object) -> Split:
        return self.sides.get(self.root(node), Split.UNASSIGNED)

    def join(self, nodes: Sequence[object], side: Split) -> None:
        first = self.root(nodes[0])
        for node in nodes[1:]:
            self.parents[self.root(node)] = first
        self.sides[first] = side


@dataclass(frozen=True)
class Linked:
    """Groups after linking."""

    groups: Mapping[int, str]
    """Index of an entry -> name of its group: the first in order of the names that were linked."""
    refused: Mapping[int, str]
    """Index of an entry -> why it cannot be on any side."""


def link(entries: Sequence[Entry], pairs: Iterable[Sequence[int]]) -> Linked:
    """Join the groups of near-duplicates, and refuse the images that would join groups of different sides.

    Images that hold a side are taken first, then the new ones in the order of their digests.
    """
    forest, refused = _Forest(), dict[int, str]()
    neighbours = _neighbours(pairs)
    accepted: set[int] = set()
    for index in sorted(range(len(entries)), key=lambda i: (PRIORITY.index(entries[i].held), entries[i].key)):
        near = sorted(neighbours[index] & accepted)
        reason = _conflict(forest, entries, index, near)
        if reason:
            refused[index] = reason
            continue
        nodes = [index, entries[index].group, *near]
        sides = {forest.side(node) for node in nodes} | {entries[index].held}
        forest.join(nodes, next(side for side in PRIORITY if side in sides))
        accepted.add(index)
    return Linked(_names(forest, entries, accepted), refused)


def _neighbours(pairs: Iterable[Sequence[int]]) -> defaultdict[int, set[int]]:
    found: defaultdict[int, set[int]] = defaultdict(set)
    for a, b in pairs:
        found[int(a)].add(int(b))
        found[int(b)].add(int(a))
    return found


def _conflict(forest: _Forest, entries: Sequence[Entry], index: int, near: Sequence[int]) -> str:
    entry = entries[index]
    ties = [(f"group {entry.group}", forest.side(entry.group))]
    ties += [(f"near-duplicate {entries[other].name}", forest.side(other)) for other in near]
    ties += [("itself, before", entry.held)]
    sides = {side: name for name, side in ties if side is not Split.UNASSIGNED}
    if len(sides) < 2:
        return ""
    told = " and ".join(f"{name} ({side.value})" for side, name in sides.items())
    return f"would link groups of different splits: {told}; remove one of them, or ingest into a new folder"


def _names(forest: _Forest, entries: Sequence[Entry], accepted: Iterable[int]) -> dict[int, str]:
    roots = {index: forest.root(index) for index in accepted}
    names: dict[object, str] = {}
    for index, root in roots.items():
        names[root] = min(names.get(root, entries[index].group), entries[index].group)
    return {index: names[root] for index, root in roots.items()}


def deal(entries: Sequence[Entry], spec: SplitSpec) -> dict[str, Split]:
    """Deal groups to train, validation and test: group -> side.

    A group stays where one of its images was. New groups follow in the order of a seeded hash of their pixels, each to
    the side that lacks most images in the group's stratum (the commonest among its images).
    """
    members: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[entry.group].append(entry)
    strata = {group: _stratum(inside) for group, inside in members.items()}
    sides = {group: _held(inside) for group, inside in members.items()}
    counts: Counter[tuple[Stratum, Split]] = Counter()
    totals: Counter[Stratum] = Counter()
    for group, inside in members.items():
        totals[strata[group]] += len(inside)
        counts[strata[group], sides[group]] += len(inside)
    for group in sorted(members, key=lambda name: _order(members[name], spec.seed)):
        if sides[group] is Split.UNASSIGNED:
            stratum = strata[group]
            sides[group] = _neediest(spec, totals[stratum], {side: counts[stratum, side] for side in Split})
            counts[stratum, sides[group]] += len(members[group])
    return sides


def _stratum(entries: Iterable[Entry]) -> Stratum:
    counts = Counter(entry.stratum for entry in entries)
    return min(counts, key=lambda stratum: (-counts[stratum], stratum))


def _held(entries: Iterable[Entry]) -> Split:
    sides = {entry.held for entry in entries}
    return next(side for side in PRIORITY if side in sides)


def _order(entries: Iterable[Entry], seed: int) -> str:
    return hashlib.sha256(f"{seed}/{min(entry.key for entry in entries)}".encode()).hexdigest()


def _neediest(spec: SplitSpec, total: int, counts: Mapping[Split, int]) -> Split:
    shares = {Split.TEST: spec.test, Split.VAL: spec.val, Split.TRAIN: 1 - spec.test - spec.val}
    wanted = [side for side, share in shares.items() if share > 0]
    return max(wanted, key=lambda side: shares[side] * total - counts[side])
