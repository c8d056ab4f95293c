"""Ingestion: images are checked, deduplicated, split without leakage, and listed in a catalog with a quarantine."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from sgcldff.core.boundary import reading
from sgcldff.core.errors import StoreError, readable
from sgcldff.core.parquet_file import read_table, write_table
from sgcldff.core.records import QUARANTINE_SCHEMA, Sample, Split, samples_from_table, samples_to_table
from sgcldff.core.settings import IngestSpec, digest
from sgcldff.core.tally import Progress
from sgcldff.data.adapters import PublishedSize, Rejected, Source
from sgcldff.data.catalog import checks
from sgcldff.data.catalog.measurements import facts_table, measure_all, read_facts
from sgcldff.data.catalog.near_duplicates import hash_bits, near_duplicates
from sgcldff.data.catalog.overlap import SIDE
from sgcldff.data.catalog.paths import FACTS, MANIFEST, QUARANTINE, SPLITS, require_catalog
from sgcldff.data.catalog.splits import SplitItem, assign_splits, link

SPLITS_SCHEMA = pa.schema([("pixels", pa.string()), ("split", pa.string())])

NOT_UTF8 = "its name, or that of its folder, is not UTF-8; rename it"

SplitOfPixels = Mapping[str, Split]
"""Digest of an image's pixels -> its split."""


@dataclass(frozen=True)
class Catalog:
    """A manifest of images, and the inputs that were quarantined."""

    folder: Path
    samples: tuple[Sample, ...]
    quarantine: pa.Table
    """A table of `QUARANTINE_SCHEMA`."""

    @classmethod
    def open(cls, folder: str | Path) -> "Catalog":
        """Open a catalog.

        Raises
        ------
        MissingInputError
            If the folder contains none.
        StoreError
            If it is damaged.
        """
        folder = Path(folder)
        require_catalog(folder)
        return cls(folder, samples_from_table(_read(folder / MANIFEST)), _read(folder / QUARANTINE))

    @cached_property
    def digest(self) -> str:
        """Hash of images, masks, annotations and splits, but not of paths; 16 hexadecimal digits."""
        return digest(sorted(json.dumps(_content(sample)) for sample in self.samples))

    def select(self, split: Split | str | None = None, source: str | None = None) -> tuple[Sample, ...]:
        """Return the samples of a split, a data set, or both."""
        return tuple(
            sample for sample in self.samples if split in (None, sample.split) and source in (None, sample.source)
        )

    def snapshot(self) -> Path:
        """Save a copy of the manifest under its digest, and return the path."""
        path = self.folder / "snapshots" / f"{self.digest}.parquet"
        if not path.exists():
            write_table(path, samples_to_table(self.samples))
        return path


def _content(sample: Sample) -> list[object]:
    code = sample.mask_code and [sample.mask_code.cytoplasm, sample.mask_code.nucleus]
    annotation = [sample.label, sample.mpp, code, sample.boxes, sample.group, sample.split.value]
    attributes = [] if sample.attributes is None else [asdict(sample.attributes)]
    return [sample.id, sample.sha256, sample.mask_sha256, *annotation, *attributes]


def ingest(
    sources: Iterable[Source],
    folder: str | Path,
    spec: IngestSpec | None = None,
    progress: Progress | None = None,
) -> Catalog:
    """Create or update the catalog in `folder` from all of `sources`; unchanged files are not read again.

    Images that are unreadable, resized, uniform, too small, unannotated, duplicates, or have an unknown label are
    quarantined with a reason, as are those that would let a group leak from one split to another. Splits never change,
    even for images that are missing for a while, unless `spec` changes their shares, the seed or the definition of
    near-duplicates.

    Raises
    ------
    InputError
        If a source is empty or cannot be read at all.
    """
    spec, folder = spec or IngestSpec(), Path(folder)
    samples, sizes, rejected = _scan(sources)
    keys = (key for sample in samples for key in checks.files_of(sample) if key is not None)
    results = measure_all(keys, read_facts(folder / FACTS), progress)
    manifest = folder / MANIFEST
    existing_ids = {sample.id for sample in samples_from_table(_read(manifest))} if manifest.exists() else set()
    screened = _screen(checks.measured_samples(samples, results), sizes, spec, existing_ids)
    splits = _read_splits(folder / SPLITS, spec)
    rows, leaking = _split(screened.rows, splits, spec)
    splits |= {row.facts.pixels: row.sample.split for row in rows}
    quarantine = [asdict(item) for item in (*rejected, *screened.quarantined, *leaking)]
    write_table(folder / FACTS, facts_table(results))
    split_rows = [{"pixels": pixels, "split": split.value} for pixels, split in splits.items()]
    split_schema = SPLITS_SCHEMA.with_metadata({"sgcldff.rule": _rule(spec)})
    write_table(folder / SPLITS, pa.Table.from_pylist(split_rows, schema=split_schema))
    write_table(folder / QUARANTINE, pa.Table.from_pylist(quarantine, schema=QUARANTINE_SCHEMA))
    write_table(manifest, samples_to_table(row.sample for row in rows))
    return Catalog.open(folder)


def _scan(sources: Iterable[Source]) -> tuple[list[Sample], dict[str, PublishedSize], list[checks.QuarantinedInput]]:
    """Find the samples, their published sizes by id, and the inputs that adapters rejected."""
    samples, sizes, rejected = list[Sample](), dict[str, PublishedSize](), list[checks.QuarantinedInput]()
    for source in sources:
        size = source.published
        with reading(source.folder, "cannot be read as a data set", "grant access, or fetch it again"):
            items = tuple(source.scan())
        for item in items:
            texts = "".join(map(str, astuple(item)))
            if isinstance(item, Rejected):
                rejected.append(checks.QuarantinedInput(source.adapter, readable(item.image), readable(item.reason)))
            elif readable(texts) != texts:
                rejected.append(checks.QuarantinedInput(source.adapter, readable(item.image), NOT_UTF8))
            else:
                samples.append(item)
                sizes |= {item.id: size} if size else {}
    return samples, sizes, rejected


def _screen(
    measured: checks.Screened, sizes: Mapping[str, PublishedSize], spec: IngestSpec, existing_ids: set[str]
) -> checks.Screened:
    sized = checks.with_published_size(measured.rows, sizes)
    usable = checks.usable_samples(sized.rows, spec)
    named = checks.with_unique_ids(usable.rows)
    distinct = checks.without_duplicates(named.rows, existing_ids)
    steps = (measured, sized, usable, named, distinct)
    return checks.Screened(distinct.rows, [item for step in steps for item in step.quarantined])


def _split(rows: Sequence[checks.MeasuredSample], splits: SplitOfPixels, spec: IngestSpec) -> checks.Screened:
    """Join near-duplicates into groups, assign the groups to splits, and quarantine images that would leak."""
    items = [
        SplitItem(
            row.facts.pixels,
            row.sample.id,
            row.sample.group,
            (row.sample.source, row.sample.label or ""),
            splits.get(row.facts.pixels, Split.UNASSIGNED),
        )
        for row in rows
    ]
    thumbnails = np.frombuffer(b"".join(row.facts.thumbnail for row in rows), np.uint8).reshape(-1, SIDE, SIDE)
    near = near_duplicates(hash_bits([row.facts.phash for row in rows]), thumbnails, spec)
    linked = link(items, near.tolist())
    grouped = [replace(items[index], group=group) for index, group in linked.groups.items()]
    split_of = assign_splits(grouped, spec.split)
    kept = [
        replace(row, sample=replace(row.sample, group=linked.groups[index], split=split_of[linked.groups[index]]))
        for index, row in enumerate(rows)
        if index in linked.groups
    ]
    return checks.Screened(
        kept, [checks.quarantined(rows[index].sample, reason) for index, reason in linked.refused.items()]
    )


def _rule(spec: IngestSpec) -> bytes:
    return digest(
        [asdict(spec.split), spec.hash_distance, spec.min_similarity, spec.min_correlation, spec.version]
    ).encode()


def _read_splits(path: Path, spec: IngestSpec) -> dict[str, Split]:
    """Read the splits assigned so far; none if there is no catalog yet, or they were assigned by another rule.

    Raises
    ------
    StoreError
        If the splits of a catalog are damaged or missing: training images could become test images.
    """
    if not path.exists():
        if path.with_name(MANIFEST).exists():
            raise StoreError(
                f"{path}: missing, so that training images could become test images; restore it from a backup, or "
                "remove the catalog's folder to assign all splits again"
            )
        return {}
    table = _read(path)
    if (table.schema.metadata or {}).get(b"sgcldff.rule") != _rule(spec):
        return {}
    return {row["pixels"]: Split(row["split"]) for row in table.to_pylist()}


def _read(path: Path) -> pa.Table:
    return read_table(path, "remove it and run `sgcldff prepare` again")
