"""The catalog of images: checked, without copies, split without leaks, kept in Parquet beside what was set aside."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sgcldff.core.errors import StoreError
from sgcldff.core.records import QUARANTINE_SCHEMA, Sample, Split, samples_from_table, samples_to_table
from sgcldff.core.settings import IngestSpec, digest
from sgcldff.data.adapters import PublishedSize, Rejected, Source
from sgcldff.data.catalog.checks import (
    Aside,
    Row,
    Screened,
    as_published,
    aside,
    described,
    files_of,
    named_once,
    seen_once,
    valid,
)
from sgcldff.data.catalog.measurements import Progress, facts_table, measure_all, read_facts
from sgcldff.data.catalog.near_duplicates import hash_bits, near_duplicates
from sgcldff.data.catalog.overlap import SIDE, Pairs
from sgcldff.data.catalog.paths import FACTS, MANIFEST, QUARANTINE, SIDES, require_catalog
from sgcldff.data.catalog.splits import Entry, deal, link

SIDES_SCHEMA = pa.schema([("pixels", pa.string()), ("split", pa.string())])

Sides = Mapping[str, Split]
"""Digest of an image's pixels -> the side it was dealt to."""


@dataclass(frozen=True)
class Catalog:
    """A manifest and what was set aside while it was made."""

    folder: Path
    samples: tuple[Sample, ...]
    quarantine: pa.Table
    """Of `QUARANTINE_SCHEMA`."""

    @classmethod
    def open(cls, folder: str | Path) -> "Catalog":
        """Open the catalog that `ingest` wrote.

        Raises
        ------
        MissingInputError
            If the folder holds none.
        StoreError
            If it is damaged.
        """
        folder = Path(folder)
        require_catalog(folder)
        return cls(folder, samples_from_table(_read(folder / MANIFEST)), _read(folder / QUARANTINE))

    @cached_property
    def digest(self) -> str:
        """Hash of the content, 16 hexadecimal digits: images, masks, what is known of them, splits; no paths."""
        return digest(sorted(json.dumps(_content(sample)) for sample in self.samples))

    def select(self, split: Split | str | None = None, source: str | None = None) -> tuple[Sample, ...]:
        """Choose the samples of a split, of a data set, or of both."""
        return tuple(
            sample for sample in self.samples if split in (None, sample.split) and source in (None, sample.source)
        )

    def snapshot(self) -> Path:
        """Keep the manifest as it is under its digest, and give the path."""
        path = self.folder / "snapshots" / f"{self.digest}.parquet"
        if not path.exists():
            _write(samples_to_table(self.samples), path)
        return path


def _content(sample: Sample) -> list[object]:
    code = sample.mask_code and [sample.mask_code.cytoplasm, sample.mask_code.nucleus]
    known = [sample.label, sample.mpp, code, sample.boxes, sample.group, sample.split.value]
    attributes = [] if sample.attributes is None else [asdict(sample.attributes)]
    return [sample.id, sample.sha256, sample.mask_sha256, *known, *attributes]


def ingest(
    sources: Iterable[Source], folder: str | Path, spec: IngestSpec | None = None, progress: Progress | None = None
) -> Catalog:
    """Make or renew the catalog in `folder` from all of `sources`; files that did not change are not read again.

    Images that are unreadable, resized, flat, too small, of unknown label, without any truth, copies of others, or that
    would let a group leak from one split to another are set aside with their reason. Splits once dealt stay, also for
    images that are away for a while, unless `spec` asks for other shares, another seed or another idea of
    near-duplicates.

    Raises
    ------
    InputError
        If a source holds nothing, or cannot be read as a whole.
    """
    spec, folder = spec or IngestSpec(), Path(folder)
    samples, sizes, rejected = _scan(sources)
    keys = (key for sample in samples for key in files_of(sample) if key is not None)
    results = measure_all(keys, read_facts(folder / FACTS), progress)
    screened = _screen(described(samples, results), sizes, spec, _incumbents(folder))
    sides = _read_sides(folder / SIDES, spec)
    rows, leaking = _split(screened.rows, sides, spec)
    _write(facts_table(results), folder / FACTS)
    _write(_sides_table({**sides, **{row.facts.pixels: row.sample.split for row in rows}}, spec), folder / SIDES)
    _write(_aside_table([*rejected, *screened.aside, *leaking]), folder / QUARANTINE)
    _write(samples_to_table(row.sample for row in rows), folder / MANIFEST)
    return Catalog.open(folder)


def _scan(sources: Iterable[Source]) -> tuple[list[Sample], dict[str, PublishedSize], list[Aside]]:
    """Find the samples, the sizes in which they are published, by id, and what the adapters rejected."""
    samples, sizes, rejected = list[Sample](), dict[str, PublishedSize](), list[Aside]()
    for source in sources:
        size = source.published
        for item in source.scan():
            if isinstance(item, Rejected):
                rejected.append(Aside(source.adapter, item.image, item.reason))
            else:
                samples.append(item)
                sizes |= {item.id: size} if size else {}
    return samples, sizes, rejected


def _screen(
    described_: Screened, sizes: Mapping[str, PublishedSize], spec: IngestSpec, incumbents: set[str]
) -> Screened:
    whole = as_published(described_.rows, sizes)
    checked = valid(whole.rows, spec)
    named = named_once(checked.rows)
    single = seen_once(named.rows, incumbents)
    return Screened(single.rows, [*described_.aside, *whole.aside, *checked.aside, *named.aside, *single.aside])


def _split(rows: Sequence[Row], sides: Sides, spec: IngestSpec) -> Screened:
    """Join near-duplicates into groups, deal the groups, and set aside what would leak."""
    entries = [_entry(row, sides) for row in rows]
    linked = link(entries, _near(rows, spec).tolist())
    grouped = [replace(entries[index], group=group) for index, group in linked.groups.items()]
    dealt = deal(grouped, spec.split)
    kept = [
        replace(row, sample=replace(row.sample, group=linked.groups[index], split=dealt[linked.groups[index]]))
        for index, row in enumerate(rows)
        if index in linked.groups
    ]
    return Screened(kept, [aside(rows[index].sample, reason) for index, reason in linked.refused.items()])


def _entry(row: Row, sides: Sides) -> Entry:
    sample, pixels = row.sample, row.facts.pixels
    stratum = (sample.source, sample.label or "")
    return Entry(pixels, sample.id, sample.group, stratum, sides.get(pixels, Split.UNASSIGNED))


def _near(rows: Sequence[Row], spec: IngestSpec) -> Pairs:
    hashes = hash_bits([row.facts.phash for row in rows])
    thumbnails = np.frombuffer(b"".join(row.facts.thumbnail for row in rows), np.uint8)
    return near_duplicates(hashes, thumbnails.reshape(-1, SIDE, SIDE), spec)


def _incumbents(folder: Path) -> set[str]:
    manifest = folder / MANIFEST
    return {sample.id for sample in samples_from_table(_read(manifest))} if manifest.exists() else set()


def _rule(spec: IngestSpec) -> bytes:
    return digest(
        [asdict(spec.split), spec.hash_distance, spec.min_similarity, spec.min_correlation, spec.version]
    ).encode()


def _read_sides(path: Path, spec: IngestSpec) -> dict[str, Split]:
    """Read the splits dealt so far; none if they were dealt by another rule."""
    if not path.exists():
        return {}
    table = _read(path)
    if (table.schema.metadata or {}).get(b"sgcldff.rule") != _rule(spec):
        return {}
    return {row["pixels"]: Split(row["split"]) for row in table.to_pylist()}


def _sides_table(sides: Sides, spec: IngestSpec) -> pa.Table:
    rows = [{"pixels": pixels, "split": side.value} for pixels, side in sides.items()]
    return pa.Table.from_pylist(rows, schema=SIDES_SCHEMA.with_metadata({"sgcldff.rule": _rule(spec)}))


def _aside_table(items: Iterable[Aside]) -> pa.Table:
    return pa.Table.from_pylist([asdict(item) for item in items], schema=QUARANTINE_SCHEMA)


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: damaged ({error}); remove it and run `sgcldff prepare` again") from error


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    pq.write_table(table, part)
    part.replace(path)
