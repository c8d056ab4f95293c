"""Stable splits by group: linked images are in the same split, and earlier images keep theirs."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.cluster.hierarchy import DisjointSet

from sgcldff.core.records import Split
from sgcldff.core.settings import SplitSpec

PRIORITY = (Split.TEST, Split.VAL, Split.TRAIN, Split.UNASSIGNED)
"""If images that are now linked had different splits, those in the split listed first keep it."""

Stratum = tuple[str, str]
"""Data set and label."""


@dataclass(frozen=True)
class SplitItem:
    """The properties of an image on which its split depends."""

    key: str
    """Digest of its pixels."""
    name: str
    group: str
    """Patient or slide, according to its data set."""
    stratum: Stratum
    previous: Split = Split.UNASSIGNED
    """Its split so far."""


class _GroupedSplits:
    """Sets of linked images and groups, each with its split."""

    def __init__(self, nodes: Iterable[object]) -> None:
        self.sets = DisjointSet(nodes)
        self.splits: dict[object, Split] = {}

    def split(self, node: object) -> Split:
        return self.splits.get(self.sets[node], Split.UNASSIGNED)

    def join(self, nodes: Sequence[object], split: Split) -> None:
        for node in nodes[1:]:
            self.sets.merge(nodes[0], node)
        self.splits[self.sets[nodes[0]]] = split


@dataclass(frozen=True)
class Linked:
    """Groups after linking."""

    groups: Mapping[int, str]
    """Index of an item -> name of its group: alphabetically the first of the linked names."""
    refused: Mapping[int, str]
    """Index of an item -> why it cannot be in any split."""


def link(items: Sequence[SplitItem], pairs: Iterable[Sequence[int]]) -> Linked:
    """Join the groups of near-duplicates, and refuse images that would join groups of different splits.

    Images that already have a split come first, then new ones in the order of their digests.
    """
    sets = _GroupedSplits((*range(len(items)), *{item.group for item in items}))
    refused, accepted = dict[int, str](), set[int]()
    neighbours: defaultdict[int, set[int]] = defaultdict(set)
    for a, b in pairs:
        neighbours[int(a)].add(int(b))
        neighbours[int(b)].add(int(a))
    for index in sorted(range(len(items)), key=lambda i: (PRIORITY.index(items[i].previous), items[i].key)):
        near = sorted(neighbours[index] & accepted)
        reason = _conflict(sets, items, index, near)
        if reason:
            refused[index] = reason
            continue
        nodes = [index, items[index].group, *near]
        splits = {sets.split(node) for node in nodes} | {items[index].previous}
        sets.join(nodes, _first_of(splits))
        accepted.add(index)
    return Linked(_group_names(sets, items, accepted), refused)


def _first_of(splits: Collection[Split]) -> Split:
    return next(split for split in PRIORITY if split in splits)


def _conflict(sets: _GroupedSplits, items: Sequence[SplitItem], index: int, near: Sequence[int]) -> str:
    """Return why an item cannot be linked with its group and its near-duplicates; empty if it can."""
    item = items[index]
    ties = [(f"group {item.group}", sets.split(item.group))]
    ties += [(f"near-duplicate {items[other].name}", sets.split(other)) for other in near]
    ties += [("itself, before", item.previous)]
    names = {split: name for name, split in ties if split is not Split.UNASSIGNED}
    if len(names) < 2:
        return ""
    conflict = " and ".join(f"{name} ({split.value})" for split, name in names.items())
    return f"would link groups of different splits: {conflict}; remove one of them, or ingest into a new folder"


def _group_names(sets: _GroupedSplits, items: Sequence[SplitItem], accepted: Iterable[int]) -> dict[int, str]:
    roots = {index: sets.sets[index] for index in accepted}
    names: dict[object, str] = {}
    for index, root in roots.items():
        names[root] = min(names.get(root, items[index].group), items[index].group)
    return {index: names[root] for index, root in roots.items()}


def assign_splits(items: Sequence[SplitItem], spec: SplitSpec) -> dict[str, Split]:
    """Assign groups to training, validation and test: group -> split.

    A group keeps the split of its earlier images. New groups follow in the order of a seeded hash of their pixels; each
    goes to the split that lacks most images of the group's stratum (the most frequent among its images).
    """
    members: defaultdict[str, list[SplitItem]] = defaultdict(list)
    for item in items:
        members[item.group].append(item)
    strata = {group: _stratum(inside) for group, inside in members.items()}
    splits = {group: _first_of({item.previous for item in inside}) for group, inside in members.items()}
    counts: Counter[tuple[Stratum, Split]] = Counter()
    totals: Counter[Stratum] = Counter()
    for group, inside in members.items():
        totals[strata[group]] += len(inside)
        counts[strata[group], splits[group]] += len(inside)
    firsts = {group: f"{spec.seed}/{min(item.key for item in inside)}" for group, inside in members.items()}
    for group in sorted(members, key=lambda name: hashlib.sha256(firsts[name].encode()).hexdigest()):
        if splits[group] is Split.UNASSIGNED:
            stratum = strata[group]
            splits[group] = _most_lacking(spec, totals[stratum], {split: counts[stratum, split] for split in Split})
            counts[stratum, splits[group]] += len(members[group])
    return splits


def _stratum(items: Iterable[SplitItem]) -> Stratum:
    counts = Counter(item.stratum for item in items)
    return min(counts, key=lambda stratum: (-counts[stratum], stratum))


def _most_lacking(spec: SplitSpec, total: int, counts: Mapping[Split, int]) -> Split:
    shares = {Split.TEST: spec.test, Split.VAL: spec.val, Split.TRAIN: 1 - spec.test - spec.val}
    wanted = [split for split, share in shares.items() if share > 0]
    return max(wanted, key=lambda split: shares[split] * total - counts[split])
