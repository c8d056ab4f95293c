"""Protocols of the benchmark and its budget: what is trained, and on which images it is scored."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sgcldff.core.errors import InputError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.records import Sample, Split
from sgcldff.core.settings import Perturbation, require
from sgcldff.evaluation.corruptions import AMOUNTS

REFERENCE = "sgcldff"
"""The candidate that the others are compared with."""
BASELINES = ("unet", "deeplabv3plus", "swin-unet", "resnet50", "efficientnet")
"""Candidates of other architectures; the rest are SG-CLDFF with one part changed."""
STRENGTHS = tuple(AMOUNTS)
EPOCHS_TEXT = re.compile(r"(?P<epochs>\d{1,6})(?: ?epochs?)?")
TIME_TEXT = re.compile(r"(?:(?P<d>\d{1,3})d)?(?:(?P<h>\d{1,5})h)?(?:(?P<m>\d{1,6})m(?:in)?)?(?:(?P<s>\d{1,7})s)?")
SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


class Protocol(StrEnum):
    """How images are split into training and test images."""

    WITHIN = "within"
    """Trained on the training splits of all data sets, scored on the test split of each."""
    LEFT_OUT = "left-out"
    """Trained on all data sets but one, scored on all images of that one, whose stain is unseen."""
    ROBUSTNESS = "robustness"
    """Trained as within, scored on the test splits under all kinds of `Perturbation` at `STRENGTHS`."""


CORRUPTIONS = tuple((kind, strength) for kind in Perturbation for strength in STRENGTHS)


@dataclass(frozen=True)
class BenchmarkPlan:
    """Extent of a benchmark."""

    seeds: int = 3
    """Trainings per candidate, with seeds starting from 0."""
    protocols: tuple[Protocol, ...] = field(default_factory=tuple)
    """Empty: all that are possible with the data sets."""
    seconds: float | None = None
    """Time for everything, s; None: unlimited."""

    def __post_init__(self) -> None:
        require(self.seeds >= 1, f"seeds is {self.seeds}: give at least 1, and 3 to distinguish merit from chance")
        require(self.seconds is None or self.seconds > 0, f"the total time is {self.seconds} s: give more")

    def allowed(self, sources: Sequence[str]) -> tuple[Protocol, ...]:
        """Return the protocols to run on data sets of these names.

        Raises
        ------
        InputError
            If a requested one is not possible with them.
        """
        if len(sources) > 1:
            return self.protocols or tuple(Protocol)
        if Protocol.LEFT_OUT in self.protocols:
            raise InputError(
                f"protocol left-out needs two data sets, and there is only {', '.join(sources) or 'none'}: "
                "name more with --data, or other --protocols"
            )
        return self.protocols or (Protocol.WITHIN, Protocol.ROBUSTNESS)


def read_protocols(text: str) -> tuple[Protocol, ...]:
    """Read comma-separated names.

    Raises
    ------
    InputError
        If there is no such protocol.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in tuple(Protocol)]
    if unknown:
        raise InputError(f"protocol {', '.join(unknown)} is unknown: name some of {', '.join(Protocol)}")
    return tuple(protocol for protocol in Protocol if protocol in names)


@dataclass(frozen=True)
class Training:
    """One training of a candidate."""

    candidate: str
    seed: int
    without: str = ""
    """Data set that is left out; empty if all are used."""

    def __str__(self) -> str:
        return f"{self.candidate}, seed {self.seed}{f', without {self.without}' if self.without else ''}"


def trainings(candidates: Sequence[str], plan: BenchmarkPlan, sources: Sequence[str]) -> Iterator[Training]:
    """Return all trainings, ordered so that an interrupted benchmark has compared all candidates with fewer seeds."""
    protocols = plan.allowed(sources)
    on_all = [""] if {Protocol.WITHIN, Protocol.ROBUSTNESS} & set(protocols) else []
    left_out = list(sources) if Protocol.LEFT_OUT in protocols else []
    for seed in range(plan.seeds):
        for without in (*on_all, *left_out):
            yield from (Training(name, seed, without) for name in candidates)


def leave_out(samples: Iterable[Sample], source: str) -> tuple[Sample, ...]:
    """Remove a data set, and images of others that share a group (near-duplicates, say) with it."""
    every = tuple(samples)
    groups = {sample.group for sample in every if sample.source == source}
    return tuple(sample for sample in every if sample.source != source and sample.group not in groups)


def scored_samples(samples: Iterable[Sample], training: Training, space: LabelSpace) -> tuple[Sample, ...]:
    """Return the images on which a training is scored; labels that cannot be scored are removed from them.

    A label can be scored if it was learned, or all types that it may mean were, and some learned type contradicts it.
    A label finer than what was learned is replaced by the broader one: a band neutrophil is a neutrophil for a training
    without band neutrophils.
    """
    every = tuple(samples)
    if not training.without:
        return tuple(sample for sample in every if sample.split is Split.TEST)
    training_images = [sample for sample in leave_out(every, training.without) if sample.split is Split.TRAIN]
    learned = {sample.label for sample in training_images if sample.label is not None}

    def is_scorable(label: str) -> bool:
        members = set(space.members(label))
        return (label in learned or members <= learned) and any(
            not members.issuperset(space.members(other)) for other in learned
        )

    def scorable(label: str | None) -> str | None:
        if label is None:
            return None
        return next((name for name in (label, space.broaden(label)) if is_scorable(name)), None)

    held_out = [sample for sample in every if sample.source == training.without]
    return tuple(replace(sample, label=scorable(sample.label)) for sample in held_out)


def unscored_labels(samples: Sequence[Sample], source: str, space: LabelSpace) -> dict[str, int]:
    """Count the images of a left-out data set whose label cannot be scored, by label."""
    scored = {sample.id: sample.label for sample in scored_samples(samples, Training("", 0, source), space)}
    lost = [sample.label for sample in samples if sample.label and sample.id in scored and not scored[sample.id]]
    return {label: lost.count(label) for label in sorted(set(lost))}


@dataclass(frozen=True)
class Budget:
    """Epochs per training or total time; with a time, the epochs are those of the settings."""

    epochs: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read `40`, `40epochs`, `2h`, `90m` or `1h30m`; an empty text sets neither.

        Raises
        ------
        InputError
            If it is none of these, or 0.
        """
        plain = text.strip().lower()
        if not plain:
            return cls()
        epochs, duration = EPOCHS_TEXT.fullmatch(plain), TIME_TEXT.fullmatch(plain)
        if epochs and int(epochs["epochs"]) > 0:
            return cls(epochs=int(epochs["epochs"]))
        seconds = sum(int(duration[unit] or 0) * length for unit, length in SECONDS.items()) if duration else 0
        if seconds == 0:
            raise InputError(f"budget {text!r}: give epochs per training (40), or the total time (2h, 90m, 1h30m)")
        return cls(seconds=float(seconds))
