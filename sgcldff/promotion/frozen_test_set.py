"""The frozen test set: images, masks and labels that all promotions are decided on, told by content, never by path."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sgcldff.core.errors import InputError, StoreError
from sgcldff.core.labels import BROADER, LabelSpace
from sgcldff.core.records import Sample, samples_from_table, samples_to_table
from sgcldff.core.settings import digest
from sgcldff.promotion.findings import Finding
from sgcldff.slides.images import sha256_of

NAMED = 3
"""Images that a message names."""
REMEDY = "put them back as they were, or freeze the present test split with `sgcldff registry freeze`"


@dataclass(frozen=True)
class FrozenTest:
    """Test images as they were when they were frozen; their paths only say where they were then."""

    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "FrozenTest":
        """Freeze samples of a catalog.

        Raises
        ------
        InputError
            If there are none.
        """
        ordered = tuple(sorted(samples, key=lambda sample: sample.id))
        if not ordered:
            raise InputError("no image is in the test split; ingest more images")
        return cls(ordered)

    @cached_property
    def digest(self) -> str:
        """Hash of images, masks and all that is known of them, 16 hexadecimal digits; no paths."""
        return digest(sorted(content_digest(sample) for sample in self.samples))

    @property
    def groups(self) -> int:
        """Number of patients or slides."""
        return len({(sample.source, sample.group) for sample in self.samples})

    def save(self, path: str | Path) -> Path:
        """Write a manifest (Parquet)."""
        pq.write_table(samples_to_table(self.samples), path)
        return Path(path)

    @classmethod
    def open(cls, path: str | Path) -> "FrozenTest":
        """Read what `save` wrote.

        Raises
        ------
        StoreError
            If the file is damaged.
        """
        try:
            return cls(samples_from_table(pq.read_table(path)))
        except (OSError, pa.ArrowException, KeyError) as error:
            raise StoreError(f"{path}: damaged test set ({error}); freeze one again") from error

    def locate(self, catalog: Sequence[Sample]) -> "Located":
        """Find every image by its content, in a catalog or where it was, and check the bytes of image and mask."""
        present = {sample.sha256: sample for sample in catalog}
        found, faults = [], []
        for sample in self.samples:
            twin = present.get(sample.sha256, sample)
            here = replace(sample, image=twin.image, mask=twin.mask)
            faults += [f"{sample.id} {fault}" for fault in _faults(sample, twin)]
            found.append(here)
        return Located(self, tuple(found), tuple(faults))


def content_digest(sample: Sample) -> str:
    """Hash what a sample is, wherever its files lie; its attributes are not scored, and left out."""
    content = asdict(sample) | {"image": "", "mask": sample.mask_sha256}
    del content["attributes"]
    return digest(content)


def _faults(frozen: Sample, now: Sample) -> Iterator[str]:
    """Say what is not as it was frozen; `now` is what the catalog knows of the same image.

    A label that has become finer does not contradict the one that was frozen, which is the one that is scored.
    """
    if frozen.label not in (now.label, BROADER.get(now.label or "")):
        yield f"was {frozen.label or 'unlabelled'} and is {now.label or 'unlabelled'}"
    files = {"image": (now.image, frozen.sha256)}
    if frozen.mask_sha256 or now.mask:
        files["mask"] = (now.mask or "", frozen.mask_sha256)
    for what, (path, sha256) in files.items():
        if not path or not Path(path).is_file():
            yield f"has no {what} any more ({path or 'none is named'})"
        elif sha256_of(path) != sha256:
            yield f"has another {what} ({path})"


@dataclass(frozen=True)
class Located:
    """A frozen test set where it lies now."""

    frozen: FrozenTest
    samples: tuple[Sample, ...]
    faults: tuple[str, ...]
    """What is gone or changed."""

    def finding(self) -> Finding:
        """Find whether the test set is whole."""
        named = f"test set {self.frozen.digest}"
        size = f"{len(self.samples)} images of {self.frozen.groups} groups"
        if not self.faults:
            return Finding("test set", True, f"{named} is as it was frozen: {size}")
        text = f"{named} is no longer as it was frozen: {listed(self.faults)}; {REMEDY}"
        return Finding("test set", False, text, figure=len(self.faults), limit=0)

    def told_by(self, labels: LabelSpace) -> "Located":
        """Leave out the images whose labels a model cannot tell, and give the others the names under which it does."""
        known = (None, *labels.known)
        kept = (
            replace(sample, label=sample.label and labels.resolve(sample.label))
            for sample in self.samples
            if sample.label in known
        )
        return replace(self, samples=tuple(kept))

    def shared(self, whole: "Located") -> Finding:
        """Say how much of the whole test set this part of it is."""
        missing = len(whole.samples) - len(self.samples)
        text = f"compared on {len(self.samples)} images: {missing} have labels that the champion does not tell"
        return Finding("shared labels", True, text, figure=missing)


def listed(items: Sequence[str]) -> str:
    """Name the first few of many."""
    rest = len(items) - NAMED
    return "; ".join(items[:NAMED]) + (f"; and {rest} more" if rest > 0 else "")
