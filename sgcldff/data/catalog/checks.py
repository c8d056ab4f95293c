"""Checks that keep inputs out of the catalog; each gives its reason to the user."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sgcldff.core.errors import InputError
from sgcldff.core.labels import PRESETS, WBC5, smallest_label_space
from sgcldff.core.records import Boxes, Sample
from sgcldff.core.settings import MAX_MPP, MIN_MPP, IngestSpec
from sgcldff.data.adapters.base import PublishedSize
from sgcldff.data.adapters.reviewed import ADAPTER as REVIEWED
from sgcldff.data.catalog.measurements import FileFacts, FileKey, MeasureResult, file_key

KNOWN_LABELS = tuple(dict.fromkeys(label for space in PRESETS.values() for label in space.known))


@dataclass(frozen=True)
class MeasuredSample:
    """A sample with the measurements of its files."""

    sample: Sample
    facts: FileFacts
    mask: FileFacts | None


@dataclass(frozen=True)
class QuarantinedInput:
    """An input that was not accepted into the catalog."""

    source: str
    image: str
    reason: str


class Screened(NamedTuple):
    """Samples that passed a check, in order, and those that did not."""

    rows: list[MeasuredSample]
    quarantined: list[QuarantinedInput]


def quarantined(sample: Sample, reason: str) -> QuarantinedInput:
    """Quarantine a sample."""
    return QuarantinedInput(sample.source, sample.image, reason)


def files_of(sample: Sample) -> tuple[FileKey | None, FileKey | None]:
    """Return the current keys of a sample's image and mask; None for a file that is missing or not named."""
    return file_key(sample.image, mask=False), file_key(sample.mask, mask=True) if sample.mask else None


def measured_samples(samples: Iterable[Sample], results: Mapping[FileKey, MeasureResult]) -> Screened:
    """Add measurements to samples; those whose image or mask could not be read are quarantined."""
    screened = Screened([], [])
    for sample in samples:
        image, mask = files_of(sample)
        try:
            facts = _facts(sample.image, image, results)
            mask_facts = _facts(sample.mask, mask, results) if sample.mask else None
        except InputError as error:
            screened.quarantined.append(quarantined(sample, str(error)))
            continue
        measured = replace(
            sample,
            sha256=facts.sha256,
            height=facts.height,
            width=facts.width,
            phash=facts.phash,
            mask_sha256=mask_facts.sha256 if mask_facts else "",
        )
        screened.rows.append(MeasuredSample(measured, facts, mask_facts))
    return screened


def _facts(path: str, key: FileKey | None, results: Mapping[FileKey, MeasureResult]) -> FileFacts:
    result = results.get(key) if key else None
    if result is None:
        raise InputError(f"{path}: no such file; put it there or correct its name")
    if isinstance(result, InputError):
        raise result
    return result


def usable_samples(rows: Iterable[MeasuredSample], spec: IngestSpec) -> Screened:
    """Keep the samples that training can use, with boxes clipped to the image."""
    screened, rows = Screened([], []), list(rows)
    known = known_to_reviews = spec.labels.known if spec.labels else KNOWN_LABELS
    others = {row.sample.label for row in rows if row.sample.source != REVIEWED.name}.intersection(KNOWN_LABELS)
    if spec.labels is None and len(others) > 1:  # an answer beside the five types and the other images' makes no class
        known_to_reviews = (*WBC5.known, *smallest_label_space(others).known)
    for row in rows:
        labels = known_to_reviews if row.sample.source == REVIEWED.name else known
        reason = _image_fault(row, spec.min_side_px) or _annotation_fault(row, labels) or _mask_fault(row)
        if reason:
            screened.quarantined.append(quarantined(row.sample, reason))
        else:
            screened.rows.append(replace(row, sample=replace(row.sample, boxes=_clipped_boxes(row.sample))))
    return screened


def _image_fault(row: MeasuredSample, min_side: int) -> str:
    facts, sample = row.facts, row.sample
    if min(facts.height, facts.width) < min_side:
        return f"image is {facts.width}x{facts.height} px, but sides need at least {min_side} px; use its full size"
    if facts.low == facts.high:
        return f"image is empty: every pixel is {facts.low}; export it again"
    if not MIN_MPP <= sample.mpp <= MAX_MPP:
        return f"mpp is {sample.mpp}: must be {MIN_MPP} to {MAX_MPP} um/px"
    return ""


def _annotation_fault(row: MeasuredSample, known: Collection[str]) -> str:
    sample = row.sample
    if sample.label is not None and sample.label not in known:
        return f"label {sample.label!r} is in no class (known: {', '.join(known)}); correct it or name other labels"
    if sample.label is None and sample.mask is None and sample.boxes is None:
        return "unlabelled: neither label nor mask nor boxes; add one of them"
    for x0, y0, x1, y1 in sample.boxes or ():
        if x0 >= sample.width or y0 >= sample.height or x1 < 0 or y1 < 0:
            size = f"{sample.width}x{sample.height} px"
            return f"box {(x0, y0, x1, y1)} lies outside the image of {size}; correct its annotation"
    return ""


def _mask_fault(row: MeasuredSample) -> str:
    mask, code = row.mask, row.sample.mask_code
    if mask is None:
        return ""
    if (mask.height, mask.width) != (row.facts.height, row.facts.width):
        sizes = f"{mask.width}x{mask.height} px, its image {row.facts.width}x{row.facts.height} px"
        return f"mask {row.sample.mask} is {sizes}; crop or export both at one size"
    if code is not None and 0 < mask.high < code.cytoplasm:
        values = f"has values up to {mask.high}, but cells start at {code.cytoplasm}"
        return f"mask {row.sample.mask} {values}; give the values of cytoplasm and nucleus, or export it again"
    return ""


def _clipped_boxes(sample: Sample) -> Boxes | None:
    if sample.boxes is None:
        return None
    width, height = sample.width, sample.height
    return tuple(
        (max(0, x0), max(0, y0), max(0, min(width, x1)), max(0, min(height, y1))) for x0, y0, x1, y1 in sample.boxes
    )


def with_published_size(rows: Iterable[MeasuredSample], sizes: Mapping[str, PublishedSize]) -> Screened:
    """Keep the samples whose images have the published size of their data set (`sizes`, by sample id), if any."""
    screened = Screened([], [])
    for row in rows:
        sample, size = row.sample, sizes.get(row.sample.id)
        if size is None or size.fits(sample.width, sample.height):
            screened.rows.append(row)
        else:
            reason = (
                f"image is {sample.width}x{sample.height} px, but {sample.source} is published at {size}: it was "
                f"resized, so its scale is not {sample.mpp} um/px; use the published file, or give its scale with "
                "--adapter and --mpp"
            )
            screened.quarantined.append(quarantined(sample, reason))
    return screened


def with_unique_ids(rows: Iterable[MeasuredSample]) -> Screened:
    """Keep the first sample with each id."""
    screened, images = Screened([], []), dict[str, str]()
    for row in rows:
        first = images.setdefault(row.sample.id, row.sample.image)
        if first == row.sample.image:
            screened.rows.append(row)
        else:
            reason = f"id {row.sample.id!r} is taken by {first}; rename the file or its folder"
            screened.quarantined.append(quarantined(row.sample, reason))
    return screened


def without_duplicates(rows: Sequence[MeasuredSample], existing_ids: Collection[str]) -> Screened:
    """Keep one sample of each set of images with the same pixels, or none if their labels contradict each other.

    Samples with a label are preferred, then those with a mask, then those already in the catalog (`existing_ids`).
    """
    copies: defaultdict[str, list[MeasuredSample]] = defaultdict(list)
    for row in rows:
        copies[row.facts.pixels].append(row)
    reasons = {}
    for same in copies.values():
        reasons.update(_duplicate_reasons(same, existing_ids))
    kept = [row for row in rows if row.sample.id not in reasons]
    return Screened(kept, [quarantined(row.sample, reasons[row.sample.id]) for row in rows if row.sample.id in reasons])


def _duplicate_reasons(same: Sequence[MeasuredSample], existing_ids: Collection[str]) -> dict[str, str]:
    """Return sample id -> reason for all samples with the same pixels that are not kept."""

    def rank(row: MeasuredSample) -> tuple[bool, bool, bool]:
        return row.sample.label is None, row.sample.mask is None, row.sample.id not in existing_ids

    labels = {row.sample.label: row.sample.id for row in same if row.sample.label is not None}
    if len(labels) > 1:
        stated = ", ".join(f"{name} says {label!r}" for label, name in sorted(labels.items()))
        return {row.sample.id: f"same pixels, other label: {stated}; keep the right one" for row in same}
    kept = min(same, key=rank).sample
    reason = f"exact duplicate of {kept.id} ({kept.image})"
    return {row.sample.id: reason for row in same if row.sample.id != kept.id}
