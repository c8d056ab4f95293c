"""Whether the model calls the smears abnormal that the readers call abnormal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sgcldff.core.labels import NOT_WHITE
from sgcldff.core.proportions import exact_interval
from sgcldff.counting.differential import Differential
from sgcldff.counting.reference_counts import ReferenceCount, share_of
from sgcldff.counting.reference_intervals import ReferenceRow, Unit, intervals_for
from sgcldff.results.validation.by_type import Proportion
from sgcldff.results.validation.study import Study

ANY = "any type"
SHOWN, ASSUMED = 0.85, 0.95
"""Sensitivity that a study is to show, and the true one at which its power is stated."""


@dataclass(frozen=True)
class Detection:
    """Abnormal smears of one kind, by the laboratory's reference intervals."""

    label: str
    """The type that is outside; `ANY` where one of them is."""
    sensitivity: Proportion
    """Of the smears that the readers found abnormal, those that the model did."""
    specificity: Proportion
    """Of the others, those that the model did not."""
    agreement: Proportion
    """Of all."""
    power: float
    """Probability that so many abnormal smears show a sensitivity above `SHOWN` if it is `ASSUMED`."""


def detections(study: Study, rows: Sequence[ReferenceRow], level: float = 0.95) -> tuple[Detection, ...]:
    """Compare the smears that are abnormal by the readers' shares with those that are by the model's.

    A smear is abnormal if a share lies outside the reference interval in percent that holds for the patient, whatever
    its own interval is. A type that the model does not have is never abnormal for it, and one that the readers do not
    name is not judged. `ANY` comes first; where no
    interval holds for a single patient there is nothing to compare.
    """
    shares = [row for row in rows if row.unit is Unit.PERCENT and study.names(row.type)]
    verdicts = [_verdicts(one.reference, one.found, shares) for one in study.specimens]
    labels = dict.fromkeys(label for by_type in verdicts for label in by_type)
    overall = [
        (any(theirs for theirs, _ in by_type.values()), any(ours for _, ours in by_type.values()))
        for by_type in verdicts
        if by_type
    ]
    if not overall:
        return ()
    single = [(label, [by_type[label] for by_type in verdicts if label in by_type]) for label in labels]
    return (_detection(ANY, overall, level), *(_detection(label, pairs, level) for label, pairs in single))


def _verdicts(
    reference: ReferenceCount, found: Differential, rows: Sequence[ReferenceRow]
) -> Mapping[str, tuple[bool, bool]]:
    """Return for each type whether it is outside by the readers, and by the model."""
    verdicts = {}
    for interval in intervals_for(reference.patient, rows):
        if interval.limits is not None:
            low, high = interval.limits
            theirs, ours = 100 * share_of(reference.pooled, interval.label), _percent(found, interval.label)
            verdicts[interval.label] = (not low <= theirs <= high, ours is not None and not low <= ours <= high)
    return verdicts


def _percent(found: Differential, label: str) -> float | None:
    """Return the model's percentage of a type, per 100 white cells if it is none; None if the model lacks it."""
    if label in NOT_WHITE:
        return next((one.per_100 for one in found.beside if one.label == label), None)
    return next((100 * one.share for one in (*found.shares, *found.groups) if one.label == label), None)


def _detection(label: str, pairs: Sequence[tuple[bool, bool]], level: float) -> Detection:
    abnormal = [ours for theirs, ours in pairs if theirs]
    normal = [not ours for theirs, ours in pairs if not theirs]
    return Detection(
        label,
        Proportion.of(abnormal, level),
        Proportion.of(normal, level),
        Proportion.of([theirs == ours for theirs, ours in pairs], level),
        chance_to_show(len(abnormal), level),
    )


def chance_to_show(smears: int, level: float, shown: float = SHOWN, true: float = ASSUMED) -> float:
    """Return the probability that the lower end of a proportion's exact interval lies above `shown` if it is `true`."""
    from scipy.stats import binom

    enough = (hits for hits in range(smears + 1) if exact_interval(hits, smears, level)[0] > shown)
    fewest = next(enough, None)
    return 0.0 if fewest is None else float(binom.sf(fewest - 1, smears, true))
