"""What of a set of labelled images a model can be scored on."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sgcldff.core.errors import LabelError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.records import Sample
from sgcldff.evaluation.report import SetAside, UntypedLabel


def require_same_space(samples: Iterable[Sample], space: LabelSpace) -> None:
    """Make sure that the model's label space knows all labels of the samples.

    Raises
    ------
    LabelError
        Naming both spaces if it does not.
    """
    labels = sorted({sample.label for sample in samples if sample.label is not None})
    unknown = [label for label in labels if label not in space.known]
    if unknown:
        raise LabelError(
            f"the model has another label space: the images are labelled {', '.join(labels)}, the model tells"
            f" {', '.join(space.known)} and knows no {', '.join(unknown)}; evaluate a model trained for these labels"
        )


@dataclass(frozen=True)
class Scorable:
    """What of a set of images a model can be scored on."""

    samples: tuple[Sample, ...]
    """Without the labels that the model does not know."""
    untyped: tuple[UntypedLabel, ...]
    """Those labels, where the images' outlines are scored all the same."""
    set_aside: tuple[SetAside, ...]
    """Images with such a label and no mask."""


def scorable(space: LabelSpace, samples: Iterable[Sample]) -> Scorable:
    """Find what a model of this label space can be scored on: types of known labels, and outlines whatever the label.

    Raises
    ------
    LabelError
        Naming both spaces if nothing can be scored.
    """
    known, untyped = space.known, Counter[str]()
    kept, unscored = list[Sample](), list[Sample]()
    for sample in samples:
        if sample.label is None or sample.label in known:
            kept.append(sample)
        elif sample.mask is None:
            unscored.append(sample)
        else:
            untyped[sample.label] += 1
            kept.append(replace(sample, label=None))
    if not kept:
        require_same_space(unscored, space)
    told = f"which the model does not tell; it tells {', '.join(known)}"
    aside = (SetAside(one.id, f"{one.image}: labelled {one.label}, {told}") for one in unscored)
    return Scorable(tuple(kept), tuple(UntypedLabel(*item) for item in sorted(untyped.items())), tuple(aside))
