"""The judgement of a challenger: all rules of promotion, in order, on one test set."""

from collections.abc import Callable
from pathlib import Path

from sgcldff.core.settings import IngestSpec, Perturbation, PromotionSpec
from sgcldff.evaluation.corruptions import corruption
from sgcldff.evaluation.evaluate import predict
from sgcldff.evaluation.predictions import Predictions
from sgcldff.models.checkpoint import SPEC_FILE, TRAINED_ON, read_spec
from sgcldff.models.model import cached_model
from sgcldff.promotion.cost import cost_findings, costs
from sgcldff.promotion.findings import Finding, Verdict
from sgcldff.promotion.frozen_test_set import LocatedTest
from sgcldff.promotion.leakage import TrainingRecord, champion_leak_finding, find_leaks, known_images, leak_finding
from sgcldff.promotion.rules import compare_models, mean_score

NO_CHAMPION = Finding("champion", True, "there is no champion yet")

PredictImages = Callable[[str, LocatedTest, Perturbation | None], Predictions]
"""Returns the predictions of a model (its folder) for the images of a test set, corrupted or (None) as they are."""


def judge(
    challenger: str | Path,
    champion: str | Path | None,
    test: LocatedTest,
    catalog: str | Path,
    spec: PromotionSpec | None = None,
    ingest: IngestSpec | None = None,
    predict_images: PredictImages | None = None,
    best: str | Path | None = None,
) -> Verdict:
    """Apply all rules to a challenger; scores are not computed on a test set that is incomplete or leaked.

    Parameters
    ----------
    challenger, champion
        Folders of the models; None where there is no champion yet.
    test
        The test set, `FrozenTest.of(samples).locate(samples)` for instance.
    catalog
        Folder of the catalog, whose measurements show near-duplicates of training images.
    ingest
        When two images count as near-duplicates.
    predict_images
        Predicts, or finds earlier predictions; by default everything is predicted, and nothing is kept.
    best
        Folder of the best champion ever, if that is another (`decision_record.best_champion`): each challenger may be a
        little worse than the champion before it, but none much worse than the best.

    Raises
    ------
    InputError
        If a model or an image cannot be read.
    """
    rules, ask = spec or PromotionSpec(), predict_images or predict_anew
    findings: tuple[Finding, ...] = (test.finding(),)
    if not Verdict(findings).promote:
        return Verdict(findings)
    findings += _leakage(challenger, champion, test, catalog, ingest or IngestSpec())
    if not Verdict(findings).promote:
        return Verdict(findings)
    if champion is None:
        ask(str(challenger), test, None)
        return Verdict((*findings, NO_CHAMPION))
    shared = test.labelled_for(read_spec(Path(champion) / SPEC_FILE).labels)
    if len(shared.samples) < len(test.samples):
        findings += (shared.shared(test),)
    old, new = str(champion), str(challenger)
    findings += compare_models(ask(old, shared, None), ask(new, shared, None), rules).findings
    if best is not None:
        known = shared.labelled_for(read_spec(Path(best) / SPEC_FILE).labels)
        sides = ask(str(best), known, None), ask(new, known, None)
        findings += (mean_score(*sides, "score against the best champion", rules.margin, rules.evaluation),)
    for kind in rules.robustness:
        before, after = ask(old, shared, kind), ask(new, shared, kind)
        findings += (mean_score(before, after, f"score under {kind}", rules.robustness_margin, rules.evaluation),)
    return Verdict(findings + cost_findings(*costs(cached_model(old), cached_model(new), rules.timing_rounds), rules))


def predict_anew(model: str, test: LocatedTest, kind: Perturbation | None) -> Predictions:
    """Predict the images of a test set."""
    change = None if kind is None else corruption(kind)
    predictions, _ = predict(cached_model(model), test.samples, change=change, explained=False)
    return predictions


def _leakage(
    challenger: str | Path, champion: str | Path | None, test: LocatedTest, catalog: str | Path, spec: IngestSpec
) -> tuple[Finding, ...]:
    """Check whether a model was trained on the test set."""
    training = TrainingRecord.read(Path(challenger) / TRAINED_ON)
    leaks = find_leaks(training, test.samples, known_images(Path(catalog)), spec) if training else None
    champion_training = TrainingRecord.read(Path(champion) / TRAINED_ON) if champion else None
    champion_finding = champion_leak_finding(champion_training, test.samples)
    return leak_finding(leaks), *([champion_finding] if champion_finding else [])
