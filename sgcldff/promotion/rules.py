"""Rules that compare two models on the same images by a paired bootstrap, resampled by patient or slide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sgcldff.core.errors import InputError
from sgcldff.core.settings import EvalSpec, PromotionSpec
from sgcldff.core.wording import counted
from sgcldff.evaluation import metrics
from sgcldff.evaluation.bootstrap import FEWEST_GROUPS, bootstrap_scores
from sgcldff.evaluation.metrics import Doubles, Reduction
from sgcldff.evaluation.predictions import PREDICTED, Predictions
from sgcldff.evaluation.report import type_predictions
from sgcldff.promotion.findings import ROUNDING, Finding, Verdict


@dataclass(frozen=True)
class PairedFigure:
    """One figure of both models on the same images and bootstrap samples."""

    champion: float
    challenger: float
    low: float | None
    """Lower end of the interval of `difference`; None if too few bootstrap samples define it."""
    high: float | None
    centred: Doubles
    """Differences that two equal models would show on R resamples, (R,)."""

    @property
    def difference(self) -> float:
        """Challenger minus champion."""
        return self.challenger - self.champion

    def chance(self, judged: float, limit: float) -> float | None:
        """Return how often two equal models keep a limit, if this end of the interval (or the difference) is judged."""
        shift, sign = judged - self.difference, -1 if limit > 0 else 1
        defined = self.centred[np.isfinite(self.centred)]
        return float((sign * (defined + shift - limit) >= -ROUNDING).mean()) if len(defined) else None

    def finding(
        self, rule: str, passed: bool, text: str, limit: float, *, judged: float = np.nan, rare: bool = False
    ) -> Finding:
        """Return a finding on the difference; undefined figures are left out."""
        chance = self.chance(judged, limit) if np.isfinite(judged) else None
        if chance is not None:
            text += f"; an equal model passes {chance:.0%} of the time"
        champion, challenger, difference = (
            value if np.isfinite(value) else None for value in (self.champion, self.challenger, self.difference)
        )
        return Finding(rule, passed, text, champion, challenger, difference, self.low, self.high, limit, chance, rare)

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.low:+.4f} to {self.high:+.4f})"
        values = f"{self.challenger:.4f}, champion {self.champion:.4f}"
        return f"{values}: difference {self.difference:+.4f}{interval}"


def compare_models(champion: Predictions, challenger: Predictions, spec: PromotionSpec | None = None) -> Verdict:
    """Apply the rules of score, recall and calibration to two models' predictions of the same images.

    Raises
    ------
    InputError
        If the two were not scored on the same images with the same labels.
    """
    rules = spec or PromotionSpec()
    if champion.truth != challenger.truth:
        raise InputError(
            f"champion {champion.model} and challenger {challenger.model} were scored on different images or labels"
            f" (digests {champion.truth} and {challenger.truth}): evaluate both on the same test split"
        )
    score = mean_score(champion, challenger, "score", rules.margin, rules.evaluation)
    recalls = class_recalls(champion, challenger, rules)
    return Verdict((score, *recalls, *calibration(champion, challenger, rules)))


def mean_score(champion: Predictions, challenger: Predictions, rule: str, margin: float, spec: EvalSpec) -> Finding:
    """Check that the lower end of the difference in mean score is at least `-margin`.

    The score is the mean of cell IoU, nucleus IoU and macro F1 over all data sets, as far as the images define them.
    Without an interval, that is below `FEWEST_GROUPS` groups, the rule is broken.
    """
    (pair,) = paired(_mean_score, champion, challenger, spec)
    if not np.isfinite(pair.difference):
        reason = "the images have neither outlines nor two labels to score: freeze a test split that has"
        return pair.finding(rule, False, reason, -margin)
    if pair.low is None:
        few = f"all images are of {counted(len(set(champion.groups)), 'group')}, too few for an interval"
        reason = f"{few}: test on at least {FEWEST_GROUPS} patients or slides"
        return pair.finding(rule, False, reason, -margin)
    passed = pair.low >= -margin - ROUNDING
    side = "at or above" if passed else "below"
    text = f"mean {rule} {pair}, lower end {side} the limit of {-margin:+.4f}"
    return pair.finding(rule, passed, text, -margin, judged=pair.low)


def class_recalls(champion: Predictions, challenger: Predictions, spec: PromotionSpec) -> Iterator[Finding]:
    """Check for every label that the lower end of the difference in recall is at least `-spec.class_margin`.

    Intervals from few clusters are too narrow (Cameron, Gelbach and Miller, Rev. Econ. Stat. 2008), and for a class in
    few groups non-inferiority can hardly be shown: below `spec.class_groups` groups the difference itself is judged,
    the finding says so, and a person has to agree.
    """
    labels = sorted({label for label in champion.column("label") if label is not None})
    pairs = paired(lambda side: _recalls(side, labels), champion, challenger, spec.evaluation) if labels else ()
    for label, pair in zip(labels, pairs, strict=True):
        groups = _count_groups(champion, label)
        enough = groups >= spec.class_groups and pair.low is not None
        judged = pair.low if enough and pair.low is not None else pair.difference
        passed = judged >= -spec.class_margin - ROUNDING
        side = "within" if passed else "below"
        text = f"recall of {label} {pair}, {_basis('lower', groups, enough, spec)} {side}"
        text, rare = f"{text} the limit of {-spec.class_margin:+.4f}", groups < spec.class_groups
        yield pair.finding(f"recall of {label}", passed, text, -spec.class_margin, judged=judged, rare=rare)


def calibration(champion: Predictions, challenger: Predictions, spec: PromotionSpec) -> Iterator[Finding]:
    """Check that the upper end of the increase of the calibration error is at most `spec.calibration_margin`.

    Below `spec.class_groups` labelled groups the increase itself is judged, as for recalls. Without any label there is
    no finding.
    """
    groups = _count_groups(champion, None)
    if groups == 0:
        return
    bins, limit = spec.evaluation.calibration_bins, spec.calibration_margin
    (pair,) = paired(lambda side: _calibration(side, bins), champion, challenger, spec.evaluation)
    enough = groups >= spec.class_groups and pair.high is not None
    judged = pair.high if enough and pair.high is not None else pair.difference
    passed = judged <= limit + ROUNDING
    side = "within" if passed else "above"
    text = f"calibration error {pair}, {_basis('upper', groups, enough, spec)} {side}"
    yield pair.finding("calibration", passed, f"{text} the limit of {limit:+.4f}", limit, judged=judged)


def _basis(end: str, groups: int, enough: bool, spec: PromotionSpec) -> str:
    few = f"judged without an interval in {groups} groups (fewer than {spec.class_groups})"
    return f"{end} end in {groups} groups" if enough else few


def _count_groups(predictions: Predictions, label: str | None) -> int:
    """Count the groups with a label, or with any."""
    pairs = zip(predictions.groups, predictions.column("label"), strict=True)
    return len({group for group, own in pairs if own is not None and label in (None, own)})


def paired(
    reduction: Callable[[Predictions], Reduction], champion: Predictions, challenger: Predictions, spec: EvalSpec
) -> tuple[PairedFigure, ...]:
    """Reduce both models' predictions on all images and on the same bootstrap samples, column by column."""
    before, after = (bootstrap_scores(reduction(side), side.groups, spec) for side in (champion, challenger))
    apart = after - before
    columns = zip(before.values, after.values, apart.ends(spec), (apart.draws - apart.values).T, strict=True)
    return tuple(PairedFigure(float(old), float(new), *ends, centred) for old, new, ends, centred in columns)


def _mean_score(predictions: Predictions) -> Reduction:
    """From weights of the images (R, N) to the mean of the available scores (R, 1)."""
    outlines = [metrics.iou(*predictions.counts(part)) for part in ("cell_", "nucleus_")]
    mean, (types, labelled) = metrics.mean_of(np.column_stack(outlines)), type_predictions(predictions)

    groups = [group for group, use in zip(predictions.groups, labelled, strict=True) if use]
    averaged = metrics.averaged_labels(types, groups)

    def reduce(weights: Doubles) -> Doubles:
        macro_f1 = np.full((len(weights), 1), np.nan)
        if labelled.any():
            macro_f1 = metrics.type_scores(types, averaged)(weights[:, labelled])[:, 2:3]
        return metrics.nanmean(np.column_stack((mean(weights), macro_f1)))[:, None]

    return reduce


def _recalls(predictions: Predictions, labels: list[str]) -> Reduction:
    """From weights (R, N) to the recalls of labels (R, K); NaN where a label does not occur in a sample."""
    true = np.array(predictions.column("label"), object)
    correct = true == np.array(predictions.column(PREDICTED), object)
    return metrics.mean_of(np.where(true[:, None] == np.array(labels, object), correct[:, None], np.nan).astype(float))


def _calibration(predictions: Predictions, bins: int) -> Reduction:
    types, labelled = type_predictions(predictions)
    error = metrics.calibration_error(types, bins)
    return lambda weights: error(weights[:, labelled])
