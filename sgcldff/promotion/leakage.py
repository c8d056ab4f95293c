"""Leakage: whether a model was trained on its test images, or on near-duplicates of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgcldff.core.json_file import read_json
from sgcldff.core.records import Sample
from sgcldff.core.settings import IngestSpec
from sgcldff.core.wording import first_few
from sgcldff.data.catalog.measurements import FileFacts, measure, read_facts
from sgcldff.data.catalog.near_duplicates import hash_bits, near_duplicates
from sgcldff.data.catalog.overlap import SIDE
from sgcldff.data.catalog.paths import FACTS
from sgcldff.promotion.findings import Finding

REMEDY = "train without them, or freeze another test split with `sgcldff registry freeze`"


@dataclass(frozen=True)
class TrainingRecord:
    """The images that a model was trained on."""

    images: frozenset[str]
    """sha256 of the files."""
    data: str
    """Digest of their catalog."""
    complete: bool = True
    """Off if it started from the weights of a model whose training images are not recorded."""

    @classmethod
    def read(cls, path: Path) -> "TrainingRecord | None":
        """Read the record beside a model; None if there is none."""
        if not path.is_file():
            return None
        record = read_json(path, "restore it, or train the model again")
        return cls(frozenset(record["sha256"]), record.get("data", ""), record.get("complete", True))


@dataclass(frozen=True)
class Leaks:
    """Overlap of training and test images."""

    same: tuple[str, ...]
    """Ids of test images that the model was trained on."""
    near: tuple[str, ...]
    """Ids of test images of which a near-duplicate was in the training data."""
    images: int
    """Number of training images."""
    compared: int
    """Number of them whose content was compared; the files of the others are not in the catalog."""
    complete: bool = True
    """As `TrainingRecord.complete`."""


def known_images(catalog: Path) -> dict[str, FileFacts]:
    """Return the measurements of a catalog's images, by sha256."""
    return {facts.sha256: facts for key, facts in read_facts(catalog / FACTS).items() if not key.mask}


def find_leaks(
    training: TrainingRecord, test: Sequence[Sample], known: Mapping[str, FileFacts], spec: IngestSpec | None = None
) -> Leaks:
    """Compare every training image with every test image, by digest and, as ingest does, by content.

    Raises
    ------
    InputError
        If a test image that is not in `known` cannot be read.
    """
    same = tuple(sample.id for sample in test if sample.sha256 in training.images)
    test_facts = [known.get(sample.sha256) or measure(sample.image, mask=False) for sample in test]
    test_sha256 = {sample.sha256 for sample in test}
    training_facts = [known[sha256] for sha256 in sorted(training.images - test_sha256) if sha256 in known]
    every = [*test_facts, *training_facts]
    thumbnails = np.frombuffer(b"".join(facts.thumbnail for facts in every), np.uint8).reshape(-1, SIDE, SIDE)
    pairs = near_duplicates(hash_bits([facts.phash for facts in every]), thumbnails, spec or IngestSpec())
    crossing = pairs[(pairs[:, 0] < len(test)) & (pairs[:, 1] >= len(test))]
    near = tuple(test[index].id for index in np.unique(crossing[:, 0]))
    return Leaks(same, near, len(training.images), len(training_facts) + len(same), training.complete)


def leak_finding(leaks: Leaks | None) -> Finding:
    """Check that nothing leaks; fails too if the training images are not recorded."""
    if leaks is None or not leaks.complete:
        text = "the challenger's training images are not recorded (trained_on.json), so that leakage is possible"
        return Finding("leakage", False, f"{text}: train it with `sgcldff train`")
    leaking = [
        *(f"trained on {name}" for name in leaks.same),
        *(f"trained on a near-duplicate of {name}" for name in leaks.near),
    ]
    if leaking:
        text = f"the challenger saw {len(leaking)} of the test images: {first_few(leaking)}; {REMEDY}"
        return Finding("leakage", False, text, figure=len(leaking), limit=0)
    unavailable = leaks.images - leaks.compared
    rest = f"; {unavailable} of them, which are not in the catalog, were compared by digest only" if unavailable else ""
    text = f"none of {leaks.images} training images is a test image or a near-duplicate of one{rest}"
    return Finding("leakage", True, text, figure=0, limit=0)


def champion_leak_finding(training: TrainingRecord | None, test: Sequence[Sample]) -> Finding | None:
    """Report test images that the champion was trained on, which make the comparison unfair; None if there are none."""
    same = [sample.id for sample in test if training and sample.sha256 in training.images]
    if not same:
        return None
    text = f"the champion was trained on {len(same)} of the test images: {first_few(same)}"
    remedy = "freeze another test split with `sgcldff registry freeze`"
    return Finding("leakage of the champion", False, f"{text}; {remedy}", figure=len(same), limit=0)
