"""Rules that compare two models on the same images, paired, by a bootstrap over groups."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sgcldff.core.errors import InputError
from sgcldff.core.settings import EvalSpec, PromotionSpec
from sgcldff.evaluation.bootstrap import sampled
from sgcldff.evaluation.metrics import (
    Floats,
    Reduction,
    calibration_error,
    iou,
    mean_of,
    nanmean,
    type_scores,
)
from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.report import typing_of
from sgcldff.promotion.findings import ROUNDING, Finding, Verdict


@dataclass(frozen=True)
class Paired:
    """One figure of both models on the same images and the same draws of groups."""

    champion: float
    challenger: float
    low: float | None
    """Lower end of the interval of `difference`; None where too few draws tell it."""
    high: float | None

    @property
    def difference(self) -> float:
        """Challenger less champion."""
        return self.challenger - self.champion

    def finding(self, rule: str, passed: bool, text: str, limit: float) -> Finding:
        """Make a finding of the difference; figures that the images cannot tell are left out."""
        before, after, lead = (
            value if np.isfinite(value) else None for value in (self.champion, self.challenger, self.difference)
        )
        return Finding(rule, passed, text, before, after, lead, self.low, self.high, limit)

    def __str__(self) -> str:
        spread = "" if self.low is None or self.high is None else f" ({self.low:+.4f} to {self.high:+.4f})"
        sides = f"{self.challenger:.4f} against the champion's {self.champion:.4f}"
        return f"{sides}: difference {self.difference:+.4f}{spread}"


def compare(champion: Predictions, challenger: Predictions, spec: PromotionSpec | None = None) -> Verdict:
    """Hold the rules of score, recalls and calibration against two models that were asked about the same images.

    Raises
    ------
    InputError
        If the two were not scored on the same images with the same labels.
    """
    rules = spec or PromotionSpec()
    require_same_images(champion, challenger)
    score = mean_score(champion, challenger, "score", rules.margin, rules.evaluation)
    recalls = class_recalls(champion, challenger, rules)
    return Verdict((score, *recalls, *calibration(champion, challenger, rules)))


def require_same_images(champion: Predictions, challenger: Predictions) -> None:
    """Raise `InputError` unless both were scored on the same images with the same labels."""
    if champion.truth != challenger.truth:
        raise InputError(
            f"champion {champion.model} and challenger {challenger.model} were scored on other images or labels"
            f" (digests {champion.truth} and {challenger.truth}): evaluate both on the same test split"
        )


def mean_score(champion: Predictions, challenger: Predictions, rule: str, margin: float, spec: EvalSpec) -> Finding:
    """Find whether the lower end of the lead in mean score is at least `-margin`.

    The score is the mean of cell IoU, nucleus IoU and macro F1, as far as the images tell them, over all data sets.
    Without an interval, that is with a single group, the rule is not kept.
    """
    (pair,) = paired(_mean_score, champion, challenger, spec)
    if not np.isfinite(pair.difference):
        why = "the images have neither outlines nor two labels to score: freeze a test split that has"
        return pair.finding(rule, False, why, -margin)
    if pair.low is None:
        why = "all images are of one group, so no interval can be given: test on at least two patients or slides"
        return pair.finding(rule, False, why, -margin)
    passed = pair.low >= -margin - ROUNDING
    side = "at or above" if passed else "below"
    text = f"mean {rule} {pair}, lower end {side} the limit of {-margin:+.4f}"
    return pair.finding(rule, passed, text, -margin)


def class_recalls(champion: Predictions, challenger: Predictions, spec: PromotionSpec) -> Iterator[Finding]:
    """Find for every label whether the lower end of the difference of its recalls is at least `-spec.class_margin`.

    Intervals from few clusters are too narrow (Cameron, Gelbach and Miller, Rev. Econ. Stat. 2008), and a class seen in
    few groups can hardly be shown to be told as well: below `spec.class_groups` groups the difference itself is
    judged, and the finding says so.
    """
    labels = sorted({label for label in champion.column("label") if label is not None})
    pairs = paired(lambda side: _recalls(side, labels), champion, challenger, spec.evaluation) if labels else ()
    for label, pair in zip(labels, pairs, strict=True):
        groups = _groups(champion, label)
        enough = groups >= spec.class_groups and pair.low is not None
        judged = pair.low if enough and pair.low is not None else pair.difference
        passed = judged >= -spec.class_margin - ROUNDING
        text = f"recall of {label} {pair}, {_judged('lower', groups, enough, spec)} {_side(passed, 'below')}"
        yield pair.finding(
            f"recall of {label}", passed, f"{text} the limit of {-spec.class_margin:+.4f}", -spec.class_margin
        )


def calibration(champion: Predictions, challenger: Predictions, spec: PromotionSpec) -> Iterator[Finding]:
    """Find whether the upper end of the rise of the calibration error is at most `spec.calibration_margin`.

    Below `spec.class_groups` groups with a label the rise itself is judged, as for recalls. Images without any label
    tell nothing, and give no finding.
    """
    groups = _groups(champion, None)
    if groups == 0:
        return
    bins, limit = spec.evaluation.calibration_bins, spec.calibration_margin
    (pair,) = paired(lambda side: _calibration(side, bins), champion, challenger, spec.evaluation)
    enough = groups >= spec.class_groups and pair.high is not None
    judged = pair.high if enough and pair.high is not None else pair.difference
    passed = judged <= limit + ROUNDING
    text = f"calibration error {pair}, {_judged('upper', groups, enough, spec)} {_side(passed, 'above')}"
    yield pair.finding("calibration", passed, f"{text} the limit of {limit:+.4f}", limit)


def _judged(end: str, groups: int, enough: bool, spec: PromotionSpec) -> str:
    few = f"judged without an interval in {groups} groups (fewer than {spec.class_groups})"
    return f"{end} end in {groups} groups" if enough else few


def _side(passed: bool, beyond: str) -> str:
    return "within" if passed else beyond


def _groups(predictions: Predictions, label: str | None) -> int:
    """Count the groups with a label, or with any."""
    pairs = zip(predictions.groups, predictions.column("label"), strict=True)
    return len({group for group, own in pairs if own is not None and label in (None, own)})


def paired(
    reduction: Callable[[Predictions], Reduction], champion: Predictions, challenger: Predictions, spec: EvalSpec
) -> tuple[Paired, ...]:
    """Reduce both models' answers on all images and on the same draws of groups; one `Paired` a column."""
    before, after = (sampled(reduction(side), side.groups, spec) for side in (champion, challenger))
    ends = (after - before).ends(spec)
    pairs = zip(before.values, after.values, ends, strict=True)
    return tuple(Paired(float(old), float(new), *spread) for old, new, spread in pairs)


def _mean_score(predictions: Predictions) -> Reduction:
    """From weights of the images (R, N) to the mean of the available scores (R, 1)."""
    outlines = [iou(*predictions.counts(part)) for part in ("cell_", "nucleus_")]
    mean, (typing, typed) = mean_of(np.column_stack(outlines)), typing_of(predictions)

    def reduce(weights: Floats) -> Floats:
        kinds = type_scores(typing)(weights[:, typed])[:, 2:3] if typed.any() else np.full((len(weights), 1), np.nan)
        return nanmean(np.column_stack((mean(weights), kinds)))[:, None]

    return reduce


def _recalls(predictions: Predictions, labels: list[str]) -> Reduction:
    """From weights (R, N) to the recalls of labels (R, K); NaN where a draw holds none of a label's images."""
    true = np.array(predictions.column("label"), object)[:, None] == np.array(labels, object)
    right = np.array(predictions.column("label"), object) == np.array(predictions.column("told"), object)
    return mean_of(np.where(true, right[:, None], np.nan).astype(float))


def _calibration(predictions: Predictions, bins: int) -> Reduction:
    typing, typed = typing_of(predictions)
    error = calibration_error(typing, bins)
    return lambda weights: error(weights[:, typed])
