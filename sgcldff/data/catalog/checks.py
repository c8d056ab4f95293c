"""What keeps an input out of the catalog: each check gives the reason that its user reads."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sgcldff.core.errors import InputError
from sgcldff.core.labels import PRESETS
from sgcldff.core.records import Sample
from sgcldff.core.settings import IngestSpec
from sgcldff.data.adapters.base import PublishedSize
from sgcldff.data.catalog.measurements import Facts, FileKey, Result, file_key

KNOWN_LABELS = tuple(dict.fromkeys(label for space in PRESETS.values() for label in space.known))


@dataclass(frozen=True)
class Row:
    """A sample with what was measured of its files."""

    sample: Sample
    facts: Facts
    mask: Facts | None


@dataclass(frozen=True)
class Aside:
    """An input that was set aside."""

    source: str
    image: str
    reason: str


class Screened(NamedTuple):
    """What passed a check, in its order, and what did not."""

    rows: list[Row]
    aside: list[Aside]


def aside(sample: Sample, reason: str) -> Aside:
    """Set a sample aside."""
    return Aside(sample.source, sample.image, reason)


def files_of(sample: Sample) -> tuple[FileKey | None, FileKey | None]:
    """Describe a sample's image and mask as they are now; None for a file that is not there or not named."""
    return file_key(sample.image, mask=False), file_key(sample.mask, mask=True) if sample.mask else None


def described(samples: Iterable[Sample], results: Mapping[FileKey, Result]) -> Screened:
    """Fill in what was measured; samples whose image or mask could not be read are set aside."""
    screened = Screened([], [])
    for sample in samples:
        try:
            screened.rows.append(_described(sample, results))
        except InputError as error:
            screened.aside.append(aside(sample, str(error)))
    return screened


def _described(sample: Sample, results: Mapping[FileKey, Result]) -> Row:
    image, mask = files_of(sample)
    facts = _known(sample.image, image, results)
    truth = _known(sample.mask, mask, results) if sample.mask else None
    measured = replace(
        sample,
        sha256=facts.sha256,
        height=facts.height,
        width=facts.width,
        phash=facts.phash,
        mask_sha256=truth.sha256 if truth else "",
    )
    return Row(measured, facts, truth)


def _known(path: str, key: FileKey | None, results: Mapping[FileKey, Result]) -> Facts:
    found = results.get(key) if key else None
    if found is None:
        raise InputError(f"{path}: no such file; put it there or correct its name")
    if isinstance(found, InputError):
        raise found
    return found


def valid(rows: Iterable[Row], spec: IngestSpec) -> Screened:
    """Keep the rows that training can use; boxes are cut at the image's edges."""
    screened = Screened([], [])
    known = spec.labels.known if spec.labels else KNOWN_LABELS
    for row in rows:
        reason = _image_fault(row, spec.min_side_px) or _truth_fault(row, known) or _mask_fault(row)
        if reason:
            screened.aside.append(aside(row.sample, reason))
        else:
            screened.rows.append(replace(row, sample=replace(row.sample, boxes=_cut(row.sample))))
    return screened


def _image_fault(row: Row, min_side: int) -> str:
    facts, sample = row.facts, row.sample
    if min(facts.height, facts.width) < min_side:
        return f"image is {facts.width}x{facts.height} px: at least {min_side} px a side; give it at its full size"
    if facts.low == facts.high:
        return f"image is empty: every pixel is {facts.low}; export it again"
    if not (sample.mpp > 0 and math.isfinite(sample.mpp)):
        return f"mpp is {sample.mpp}: must be a positive number of um/px"
    return ""


def _truth_fault(row: Row, known: Collection[str]) -> str:
    sample = row.sample
    if sample.label is not None and sample.label not in known:
        return f"label {sample.label!r} is in no class: known are {', '.join(known)}; correct it or name other labels"
    if sample.label is None and sample.mask is None and sample.boxes is None:
        return "unlabelled: neither label nor mask nor boxes; add one of them"
    outside = [box for box in sample.boxes or () if not _inside(box, sample)]
    if outside:
        return f"box {outside[0]} lies outside the image of {sample.width}x{sample.height} px; correct its annotation"
    return ""


def _inside(box: tuple[int, int, int, int], sample: Sample) -> bool:
    x0, y0, x1, y1 = box
    return x0 < sample.width and y0 < sample.height and x1 >= 0 and y1 >= 0


def _mask_fault(row: Row) -> str:
    mask, code = row.mask, row.sample.mask_code
    if mask is None:
        return ""
    if (mask.height, mask.width) != (row.facts.height, row.facts.width):
        sizes = f"{mask.width}x{mask.height} px, its image {row.facts.width}x{row.facts.height} px"
        return f"mask {row.sample.mask} is {sizes}; crop or export them alike"
    if code is not None and 0 < mask.high < code.cytoplasm:
        values = f"holds values up to {mask.high}, but cells begin at {code.cytoplasm}"
        return f"mask {row.sample.mask} {values}; give the values of cytoplasm and nucleus, or export it again"
    return ""


def _cut(sample: Sample) -> tuple[tuple[int, int, int, int], ...] | None:
    if sample.boxes is None:
        return None
    width, height = sample.width, sample.height
    return tuple(
        (max(0, x0), max(0, y0), max(0, min(width, x1)), max(0, min(height, y1))) for x0, y0, x1, y1 in sample.boxes
    )


def as_published(rows: Iterable[Row], sizes: Mapping[str, PublishedSize]) -> Screened:
    """Keep the rows whose images have the size, by their ids, in which their data set is published, if it has one."""
    screened = Screened([], [])
    for row in rows:
        sample, size = row.sample, sizes.get(row.sample.id)
        if size is None or size.fits(sample.width, sample.height):
            screened.rows.append(row)
        else:
            found = f"image is {sample.width}x{sample.height} px, but {sample.source} is published at {size}"
            reason = (
                f"{found}: it was resized, so its scale is not {sample.mpp} um/px; take the published file, or give "
                "its scale with --adapter and --mpp"
            )
            screened.aside.append(aside(sample, reason))
    return screened


def named_once(rows: Iterable[Row]) -> Screened:
    """Keep the first row of each id."""
    screened, seen = Screened([], []), dict[str, str]()
    for row in rows:
        twin = seen.setdefault(row.sample.id, row.sample.image)
        if twin == row.sample.image:
            screened.rows.append(row)
        else:
            reason = f"id {row.sample.id!r} is taken by {twin}; rename the file or its folder"
            screened.aside.append(aside(row.sample, reason))
    return screened


def seen_once(rows: Sequence[Row], incumbents: Collection[str]) -> Screened:
    """Keep one row of each set of images with the same pixels; none where their labels contradict each other.

    Kept is one with a label, with a mask, that the catalog held before (`incumbents`, ids), in this order.
    """
    copies: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        copies[row.facts.pixels].append(row)
    reasons = {}
    for same in copies.values():
        reasons.update(_copies(same, incumbents))
    kept = [row for row in rows if row.sample.id not in reasons]
    return Screened(kept, [aside(row.sample, reasons[row.sample.id]) for row in rows if row.sample.id in reasons])


def _copies(same: Sequence[Row], incumbents: Collection[str]) -> dict[str, str]:
    labels = {row.sample.label: row.sample.id for row in same if row.sample.label is not None}
    if len(labels) > 1:
        told = ", ".join(f"{name} says {label!r}" for label, name in sorted(labels.items()))
        return {row.sample.id: f"same pixels, other label: {told}; keep the right one" for row in same}
    kept = min(same, key=lambda row: _rank(row.sample, incumbents)).sample
    reason = f"exact duplicate of {kept.id} ({kept.image})"
    return {row.sample.id: reason for row in same if row.sample.id != kept.id}


def _rank(sample: Sample, incumbents: Collection[str]) -> tuple[bool, bool, bool]:
    return sample.label is None, sample.mask is None, sample.id not in incumbents
