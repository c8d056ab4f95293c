"""The part of a set of labelled images that a model can be scored on."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sgcldff.core.errors import LabelError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.records import Sample
from sgcldff.evaluation.report import SkippedImage, UnknownLabel


def require_same_space(samples: Iterable[Sample], space: LabelSpace) -> None:
    """Make sure that the model's label space includes all labels of the samples.

    Raises
    ------
    LabelError
        Naming both spaces if it does not.
    """
    labels = sorted({sample.label for sample in samples if sample.label is not None})
    unknown = [label for label in labels if label not in space.known]
    if unknown:
        raise LabelError(
            f"the model has another label space: the images are labelled {', '.join(labels)}, the model predicts"
            f" {', '.join(space.known)}, but not {', '.join(unknown)}; evaluate a model trained for these labels"
        )


@dataclass(frozen=True)
class Scorable:
    """Images that a model can be scored on."""

    samples: tuple[Sample, ...]
    """Without labels that are unknown to the model."""
    unknown_labels: tuple[UnknownLabel, ...]
    """Those labels, of images that are scored by their outlines."""
    skipped: tuple[SkippedImage, ...]
    """Images with such a label and no mask."""


def scorable(space: LabelSpace, samples: Iterable[Sample]) -> Scorable:
    """Select what a model of this label space can be scored on: types of known labels, and outlines of any.

    Raises
    ------
    LabelError
        Naming both spaces if nothing can be scored.
    """
    unknown, kept, dropped = Counter[str](), list[Sample](), list[Sample]()
    for sample in samples:
        if sample.label is None or sample.label in space.known:
            kept.append(sample)
        elif sample.mask is None:
            dropped.append(sample)
        else:
            unknown[sample.label] += 1
            kept.append(replace(sample, label=None))
    if not kept:
        require_same_space(dropped, space)
    reason = f"which the model does not predict; it predicts {', '.join(space.known)}"
    skipped = tuple(SkippedImage(one.id, f"{one.image}: labelled {one.label}, {reason}") for one in dropped)
    return Scorable(tuple(kept), tuple(UnknownLabel(*item) for item in sorted(unknown.items())), skipped)
