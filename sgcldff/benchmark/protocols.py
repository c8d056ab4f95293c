"""What is trained, and on which images it is scored."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sgcldff.core.errors import InputError
from sgcldff.core.labels import BROADER, LabelSpace
from sgcldff.core.records import Sample, Split
from sgcldff.core.settings import Perturbation, require
from sgcldff.evaluation.corruptions import AMOUNTS

REFERENCE = "sgcldff"
"""The contender whom the others are compared with."""
BASELINES = ("unet", "deeplabv3plus", "swin-unet", "resnet50", "efficientnet")
"""Contenders of other makes; the rest are SG-CLDFF, one part changed."""
STRENGTHS = tuple(AMOUNTS)


class Protocol(StrEnum):
    """How training and test images are told apart."""

    WITHIN = "within"
    """Trained on the training splits of all data sets, scored on the test split of each."""
    LEFT_OUT = "left-out"
    """Trained on all data sets but one, scored on all images of that one: its stain was never seen."""
    ROBUSTNESS = "robustness"
    """Trained as within, scored on the test splits changed in `Perturbation`'s ways at `STRENGTHS`."""


CHANGES = tuple((kind, strength) for kind in Perturbation for strength in STRENGTHS)


@dataclass(frozen=True)
class Plan:
    """What a benchmark comprises."""

    seeds: int = 3
    """Trainings of every contender, with seeds from 0 on."""
    protocols: tuple[Protocol, ...] = field(default_factory=tuple)
    """Empty: all that the data sets allow."""
    seconds: float | None = None
    """Time for everything, s; None takes the time that it takes."""

    def __post_init__(self) -> None:
        require(self.seeds >= 1, f"seeds is {self.seeds}: give at least 1, and 3 to tell chance from merit")
        require(self.seconds is None or self.seconds > 0, f"the time for all is {self.seconds} s: give more")

    def allowed(self, sources: Sequence[str]) -> tuple[Protocol, ...]:
        """Give the protocols to run on data sets of these names.

        Raises
        ------
        InputError
            If one is asked for by name that they do not allow.
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
    """Read names that commas part.

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
class Cell:
    """One training."""

    contender: str
    seed: int
    without: str = ""
    """Data set that it never sees; empty where it sees all."""

    def __str__(self) -> str:
        return f"{self.contender}, seed {self.seed}{f', without {self.without}' if self.without else ''}"


def cells(contenders: Sequence[str], plan: Plan, sources: Sequence[str]) -> Iterator[Cell]:
    """Give all trainings, in an order in which a benchmark cut short has compared all contenders with few seeds."""
    protocols = plan.allowed(sources)
    together = [""] if {Protocol.WITHIN, Protocol.ROBUSTNESS} & set(protocols) else []
    apart = list(sources) if Protocol.LEFT_OUT in protocols else []
    for seed in range(plan.seeds):
        for without in (*together, *apart):
            yield from (Cell(name, seed, without) for name in contenders)


def leave_out(samples: Iterable[Sample], source: str) -> tuple[Sample, ...]:
    """Take away a data set, and images of others that share a group (near-duplicates, say) with it."""
    kept = tuple(samples)
    groups = {sample.group for sample in kept if sample.source == source}
    return tuple(sample for sample in kept if sample.source != source and sample.group not in groups)


def unseen(samples: Iterable[Sample], cell: Cell, space: LabelSpace) -> tuple[Sample, ...]:
    """Give the images on which a training is scored; labels that are no question to it are taken off them.

    A question needs an answer that was taught: the label itself, or all types that it may mean. And it needs a wrong
    one: where the label allows all types that were taught, nothing else can be told. A label finer than what was taught
    is asked for as the broader one: a band neutrophil is a neutrophil to a training that saw no bands named.
    """
    known = tuple(samples)
    if not cell.without:
        return tuple(sample for sample in known if sample.split is Split.TEST)
    learned = [sample for sample in leave_out(known, cell.without) if sample.split is Split.TRAIN]
    taught = {sample.label for sample in learned if sample.label is not None}
    held_out = [sample for sample in known if sample.source == cell.without]
    return tuple(replace(sample, label=_asked(sample.label, taught, space)) for sample in held_out)


def _asked(label: str | None, taught: set[str], space: LabelSpace) -> str | None:
    if label is None or _is_question(label, taught, space):
        return label
    broad = BROADER.get(label)
    return broad if broad in space.known and _is_question(broad, taught, space) else None


def _is_question(label: str, taught: set[str], space: LabelSpace) -> bool:
    right = set(space.members(label))
    answerable = label in taught or right <= taught
    return answerable and any(not right.issuperset(space.members(other)) for other in taught)


def unscored(samples: Sequence[Sample], source: str, space: LabelSpace) -> dict[str, int]:
    """Count the images of a left-out data set, by label, whose label is no question to the trainings."""
    scored = {sample.id: sample.label for sample in unseen(samples, Cell("", 0, source), space)}
    lost = [sample.label for sample in samples if sample.label and sample.id in scored and not scored[sample.id]]
    return {label: lost.count(label) for label in sorted(set(lost))}
