"""Whether a model learned from what it is tested on: the same files, or images that show the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgcldff.core.records import Sample
from sgcldff.core.settings import IngestSpec
from sgcldff.data.catalog.measurements import Facts, measure, read_facts
from sgcldff.data.catalog.near_duplicates import hash_bits, near_duplicates
from sgcldff.data.catalog.overlap import SIDE
from sgcldff.data.catalog.paths import FACTS
from sgcldff.promotion.findings import Finding
from sgcldff.promotion.frozen_test_set import listed

REMEDY = "train without them, or freeze another test split with `sgcldff registry freeze`"


@dataclass(frozen=True)
class Training:
    """The images that a model learned from."""

    images: frozenset[str]
    """sha256 of the files."""
    data: str
    """Digest of the catalog that they came from."""
    complete: bool = True
    """Off where it began with the weights of a model of which this is not known."""

    @classmethod
    def read(cls, record: Path) -> "Training | None":
        """Read the record beside a model; None where there is none."""
        if not record.is_file():
            return None
        told = json.loads(record.read_text())
        return cls(frozenset(told["sha256"]), told.get("data", ""), told.get("complete", True))


@dataclass(frozen=True)
class Leaks:
    """What training and test images have in common."""

    same: tuple[str, ...]
    """Ids of test images that the model learned from."""
    near: tuple[str, ...]
    """Ids of test images of which the model saw a near-duplicate."""
    images: int
    """Training images, ..."""
    compared: int
    """... of which so many were compared by what they show; the others' files are not in the catalog."""
    complete: bool = True
    """As `Training.complete`."""


def known_images(catalog: Path) -> dict[str, Facts]:
    """Give what a catalog's folder knows of its images, by sha256."""
    return {facts.sha256: facts for key, facts in read_facts(catalog / FACTS).items() if not key.mask}


def find_leaks(
    training: Training, test: Sequence[Sample], known: Mapping[str, Facts], spec: IngestSpec | None = None
) -> Leaks:
    """Compare every training image with every test image, by digest and, as ingest does, by what they show.

    Raises
    ------
    InputError
        If a test image that `known` lacks cannot be read.
    """
    same = tuple(sample.id for sample in test if sample.sha256 in training.images)
    tested = [known.get(sample.sha256) or measure(sample.image, mask=False) for sample in test]
    own = {sample.sha256 for sample in test}
    learned = [known[sha256] for sha256 in sorted(training.images - own) if sha256 in known]
    every = [*tested, *learned]
    thumbnails = np.frombuffer(b"".join(facts.thumbnail for facts in every), np.uint8).reshape(-1, SIDE, SIDE)
    pairs = near_duplicates(hash_bits([facts.phash for facts in every]), thumbnails, spec or IngestSpec())
    crossing = pairs[(pairs[:, 0] < len(tested)) & (pairs[:, 1] >= len(tested))]
    near = tuple(test[place].id for place in np.unique(crossing[:, 0]))
    return Leaks(same, near, len(training.images), len(learned) + len(same), training.complete)


def leak_finding(leaks: Leaks | None) -> Finding:
    """Find whether nothing leaks; what a model learned from has to be known."""
    if leaks is None or not leaks.complete:
        text = "what the challenger learned from is not recorded (trained_on.json), so that no leak can be ruled out"
        return Finding("leakage", False, f"{text}: train it with `sgcldff train`")
    leaking = [
        *(f"learned from {name}" for name in leaks.same),
        *(f"learned from a near-duplicate of {name}" for name in leaks.near),
    ]
    if leaking:
        text = f"the challenger saw {len(leaking)} of the test images: {listed(leaking)}; {REMEDY}"
        return Finding("leakage", False, text, figure=len(leaking), limit=0)
    blind = leaks.images - leaks.compared
    rest = f"; {blind} of them, which are not in the catalog, by digest only" if blind else ""
    text = f"none of {leaks.images} training images is a test image or a near-duplicate of one{rest}"
    return Finding("leakage", True, text, figure=0, limit=0)


def champion_leak_finding(training: Training | None, test: Sequence[Sample]) -> Finding | None:
    """Find test images that the champion learned from: beside those no fair comparison is possible; None if none."""
    same = [sample.id for sample in test if training and sample.sha256 in training.images]
    if not same:
        return None
    text = f"the champion learned from {len(same)} of the test images: {listed(same)}"
    remedy = "freeze another test split with `sgcldff registry freeze`"
    return Finding("leakage of the champion", False, f"{text}; {remedy}", figure=len(same), limit=0)
