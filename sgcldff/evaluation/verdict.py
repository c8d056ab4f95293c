"""Decide whether a challenger may replace the champion."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sgcldff.errors import InputError
from sgcldff.evaluation.metrics import Floats, bootstrap, iou, mean_of, nanmean, quantiles, type_scores
from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.scores import typing_of
from sgcldff.specs import EvalSpec, PromotionSpec

ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger may become champion, and why."""

    promote: bool
    reasons: tuple[str, ...]
    """With figures; all of them where it is refused."""
    figures: Mapping[str, float]
    """Scores of both, their difference with its interval, and recalls of every label."""


def compare(champion: Predictions | None, challenger: Predictions, spec: PromotionSpec | None = None) -> Verdict:
    """Compare two models on the same images, paired, by a bootstrap over groups.

    The score is the mean of cell IoU, nucleus IoU and macro F1, as far as the images tell them, over all data sets. The
    challenger is promoted where the lower end of the interval of its lead is at least `-spec.margin` and no label's
    recall is more than `spec.class_margin` below the champion's. Without a champion it is promoted.

    Raises
    ------
    InputError
        If the two were not scored on the same images with the same labels.
    """
    rules = spec or PromotionSpec()
    if champion is None:
        return Verdict(True, ("there is no champion yet",), {})
    if champion.truth != challenger.truth:
        raise InputError(
            f"champion {champion.model} and challenger {challenger.model} were scored on other images or labels"
            f" (digests {champion.truth} and {challenger.truth}): evaluate both on the same test split"
        )
    lead = _lead(champion, challenger, rules.evaluation)
    falls = _recalls(champion, challenger)
    refusals = (*_score_refusals(lead, rules), *_recall_refusals(falls, rules))
    figures = lead | {
        f"{name} recall of {label}": value for label, pair in falls.items() for name, value in pair.items()
    }
    return Verdict(not refusals, refusals or (_lead_text(lead, rules),), figures)


def _lead(champion: Predictions, challenger: Predictions, spec: EvalSpec) -> dict[str, float]:
    """Score both on all images and on the same draws."""
    both = [(_gate(side), side.groups) for side in (champion, challenger)]
    before, after = (float(gate(np.ones((1, len(groups))))[0, 0]) for gate, groups in both)
    figures = {"champion": before, "challenger": after, "difference": after - before}
    if len(set(champion.groups)) < 2 or not np.isfinite(after - before):
        return figures
    old, new = (bootstrap(gate, groups, spec)[:, 0] for gate, groups in both)
    low, high = quantiles(new - old, spec)
    return figures | {"low": low, "high": high}


def _gate(predictions: Predictions) -> Callable[[Floats], Floats]:
    """From weights of the images (R, N) to the mean of the available scores (R, 1)."""
    outlines = [
        iou(predictions.numbers(f"{part}_intersection"), predictions.numbers(f"{part}_union"))
        for part in ("cell", "nucleus")
    ]
    mean, (typing, typed) = mean_of(np.column_stack(outlines)), typing_of(predictions)

    def reduce(weights: Floats) -> Floats:
        kinds = type_scores(typing)(weights[:, typed])[:, 2:3] if typed.any() else np.full((len(weights), 1), np.nan)
        return nanmean(np.column_stack((mean(weights), kinds)))[:, None]

    return reduce


def _recalls(champion: Predictions, challenger: Predictions) -> dict[str, dict[str, float]]:
    before, after = _recall(champion), _recall(challenger)
    return {label: {"champion's": before[label], "challenger's": after[label]} for label in before}


def _recall(predictions: Predictions) -> dict[str, float]:
    hits: dict[str, list[bool]] = defaultdict(list)
    for label, told in zip(predictions.column("label"), predictions.column("told"), strict=True):
        if label is not None:
            hits[label].append(label == told)
    return {label: float(np.mean(right)) for label, right in sorted(hits.items())}


def _score_refusals(lead: Mapping[str, float], spec: PromotionSpec) -> tuple[str, ...]:
    if not np.isfinite(lead["difference"]):
        return ("the images have neither outlines nor two labels to score: name a test split that has",)
    if "low" not in lead:
        return ("all images are of one group, so no interval can be given: test on at least two patients or slides",)
    if lead["low"] < -spec.margin - ROUNDING:
        return (_lead_text(lead, spec),)
    return ()


def _lead_text(lead: Mapping[str, float], spec: PromotionSpec) -> str:
    side = "below" if lead["low"] < -spec.margin - ROUNDING else "at or above"
    return (
        f"mean score {lead['challenger']:.4f} against the champion's {lead['champion']:.4f}: difference"
        f" {lead['difference']:+.4f} ({lead['low']:+.4f} to {lead['high']:+.4f}), lower end {side} the limit"
        f" of {-spec.margin:+.4f}"
    )


def _recall_refusals(recalls: Mapping[str, Mapping[str, float]], spec: PromotionSpec) -> Iterator[str]:
    for label, pair in recalls.items():
        before, after = pair["champion's"], pair["challenger's"]
        if before - after > spec.class_margin + ROUNDING:
            yield (
                f"recall of {label} falls from {before:.3f} to {after:.3f}, by {before - after:.3f}: the limit is"
                f" {spec.class_margin:.3f}"
            )
