"""The frozen test set on which all promotions are decided: images, masks and labels, identified by their content."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from sgcldff.core.errors import InputError, MissingInputError, StoreError
from sgcldff.core.labels import BROADER, LabelSpace
from sgcldff.core.parquet_file import read_table, write_table
from sgcldff.core.records import Sample, samples_from_table, samples_to_table
from sgcldff.core.settings import digest
from sgcldff.core.wording import first_few
from sgcldff.promotion.findings import Finding
from sgcldff.slides.images import sha256_of

REMEDY = "restore them, or freeze the current test split with `sgcldff registry freeze`"


@dataclass(frozen=True)
class FrozenTest:
    """Test images as they were when they were frozen; their paths are those of that time."""

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
        """Hash of images, masks and their metadata without paths, 16 hexadecimal digits."""
        return digest(sorted(content_digest(sample) for sample in self.samples))

    @property
    def groups(self) -> int:
        """Number of patients or slides."""
        return len({(sample.source, sample.group) for sample in self.samples})

    def save(self, path: str | Path) -> Path:
        """Write a manifest (Parquet)."""
        return write_table(path, samples_to_table(self.samples))

    @classmethod
    def open(cls, path: str | Path) -> "FrozenTest":
        """Read what `save` wrote.

        Raises
        ------
        StoreError
            If the file is damaged.
        """
        try:
            return cls(samples_from_table(read_table(path, "freeze one again")))
        except (MissingInputError, KeyError, ValueError) as error:
            raise StoreError(f"{path}: damaged test set ({error}); freeze one again") from error

    def locate(self, catalog: Sequence[Sample]) -> "LocatedTest":
        """Find every image by its content, in a catalog or at its old path, and verify the bytes of image and mask."""
        by_sha256 = {sample.sha256: sample for sample in catalog}
        located, faults = [], []
        for sample in self.samples:
            current = by_sha256.get(sample.sha256, sample)
            faults += [f"{sample.id} {fault}" for fault in _faults(sample, current)]
            located.append(replace(sample, image=current.image, mask=current.mask))
        return LocatedTest(self, tuple(located), tuple(faults))


def content_digest(sample: Sample) -> str:
    """Hash a sample without its paths, and without its attributes, which are not scored."""
    content = asdict(sample) | {"image": "", "mask": sample.mask_sha256}
    del content["attributes"]
    return digest(content)


def _faults(frozen: Sample, current: Sample) -> Iterator[str]:
    """Describe how an image in the catalog differs from the frozen one.

    A label that has become finer does not contradict the frozen one, which is the one that is scored.
    """
    if frozen.label not in (current.label, BROADER.get(current.label or "")):
        yield f"was {frozen.label or 'unlabelled'} and is {current.label or 'unlabelled'}"
    files = {"image": (current.image, frozen.sha256)}
    if frozen.mask_sha256 or current.mask:
        files["mask"] = (current.mask or "", frozen.mask_sha256)
    for kind, (path, sha256) in files.items():
        if not path or not Path(path).is_file():
            yield f"no longer has its {kind} ({path or 'no path'})"
        elif sha256_of(path) != sha256:
            yield f"has another {kind} ({path})"


@dataclass(frozen=True)
class LocatedTest:
    """A frozen test set with the current paths of its images."""

    frozen: FrozenTest
    samples: tuple[Sample, ...]
    faults: tuple[str, ...]
    """Missing and changed files and labels."""

    def finding(self) -> Finding:
        """Check whether the test set is complete and unchanged."""
        name = f"test set {self.frozen.digest}"
        size = f"{len(self.samples)} images of {self.frozen.groups} groups"
        if not self.faults:
            return Finding("test set", True, f"{name} is unchanged since it was frozen: {size}")
        text = f"{name} has changed since it was frozen: {first_few(self.faults)}; {REMEDY}"
        return Finding("test set", False, text, figure=len(self.faults), limit=0)

    def labelled_for(self, labels: LabelSpace) -> "LocatedTest":
        """Return the images with labels that a model predicts, under the names of its label space."""
        known = (None, *labels.known)
        kept = (
            replace(sample, label=sample.label and labels.resolve(sample.label))
            for sample in self.samples
            if sample.label in known
        )
        return replace(self, samples=tuple(kept))

    def shared(self, whole: "LocatedTest") -> Finding:
        """Report which part of the whole test set this one is."""
        missing = len(whole.samples) - len(self.samples)
        text = f"compared on {len(self.samples)} images: {missing} have labels that the champion does not predict"
        return Finding("shared labels", True, text, figure=missing)
