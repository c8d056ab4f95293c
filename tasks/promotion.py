"""Tasks that compare a challenger with the champion, and record the decision."""

from dataclasses import asdict, dataclass
from pathlib import Path

from sgcldff.core.records import Split
from sgcldff.core.settings import EvalSpec, IngestSpec, Perturbation, PromotionSpec, digest
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation import Predictions
from sgcldff.evaluation.corruptions import corruption
from sgcldff.evaluation.evaluate import predict
from sgcldff.evaluation.report import PREDICTIONS_FILE
from sgcldff.models.model import load_model
from sgcldff.promotion import Decision, Evidence, Finding, FrozenTest, Signature, compare_models
from sgcldff.promotion.cost import cost_findings, costs
from sgcldff.promotion.frozen_test_set import LocatedTest
from sgcldff.promotion.leakage import TrainingRecord, champion_leak_finding, find_leaks, known_images, leak_finding
from sgcldff.promotion.rules import mean_score
from sgcldff.registry import CODE_DIGEST_TAG, CODE_TAG, TRAINED_ON, Registry, code_tags
from tasks.artifacts import show_markdown
from tasks.evaluation import save_predictions
from tasks.policy import MODEL
from tasks.progress import bar
from tasks.stages import stage
from tasks.workspace import Workspace


@dataclass(frozen=True)
class ModelPair:
    """Folders of the models that are compared."""

    challenger: str
    champion: str | None
    """None if there is no champion yet."""


@stage("freeze-test-set", MODEL)
def freeze_test_set(workspace: Workspace, signed: Signature) -> FrozenTest:
    """Return the frozen test set; if there is none, freeze the catalog's test split.

    Raises
    ------
    InputError
        If no image is in the test split.
    """
    registry = Registry(workspace.tracking_uri)
    frozen = registry.test_set()
    if frozen is not None:
        return frozen
    return registry.freeze(FrozenTest.of(Catalog.open(workspace.catalog).select(Split.TEST)), signed, replace=False)


@stage("locate-test-set", MODEL)
def locate_test_set(frozen: FrozenTest, workspace: Workspace) -> LocatedTest:
    """Find the images of the frozen test set by their content, and verify every byte."""
    return frozen.locate(Catalog.open(workspace.catalog).samples)


@stage("check-leakage", MODEL)
def check_leakage(pair: ModelPair, located: LocatedTest, workspace: Workspace, spec: IngestSpec) -> tuple[Finding, ...]:
    """Check whether a model was trained on the test set."""
    training = TrainingRecord.read(Path(pair.challenger) / TRAINED_ON)
    known = known_images(workspace.catalog)
    leaks = find_leaks(training, located.samples, known, spec) if training else None
    champion_training = TrainingRecord.read(Path(pair.champion) / TRAINED_ON) if pair.champion else None
    champion_finding = champion_leak_finding(champion_training, located.samples)
    return leak_finding(leaks), *([champion_finding] if champion_finding else [])


@stage("compare", MODEL)
def compare_evaluations(champion: str, challenger: str, spec: PromotionSpec) -> tuple[Finding, ...]:
    """Compare two evaluations of the same images."""
    sides = [Predictions.open(Path(folder) / PREDICTIONS_FILE) for folder in (champion, challenger)]
    return compare_models(sides[0], sides[1], spec).findings


@stage("compare-changed", MODEL)
def compare_corrupted(
    pair: ModelPair, located: LocatedTest, kind: Perturbation, workspace: Workspace, spec: PromotionSpec
) -> Finding:
    """Compare two models on images with the same corruption."""
    assert pair.champion is not None
    sides = [_predict_corrupted(folder, located, kind, workspace) for folder in (pair.champion, pair.challenger)]
    return mean_score(sides[0], sides[1], f"score under {kind}", spec.robustness_margin, spec.evaluation)


def _predict_corrupted(folder: str, located: LocatedTest, kind: Perturbation, workspace: Workspace) -> Predictions:
    """Predict corrupted images, or find earlier predictions."""
    model = load_model(folder)
    ids = sorted(sample.id for sample in located.samples)
    key = digest((model.digest, located.frozen.digest, ids, kind.value, PromotionSpec.version, EvalSpec.version))
    path = workspace.evaluation(key) / PREDICTIONS_FILE
    if not path.is_file():
        with bar(f"evaluate under {kind}") as progress:
            predictions, _ = predict(model, located.samples, progress, change=corruption(kind), explained=False)
        save_predictions(predictions, path)
    return Predictions.open(path)


@stage("compare-costs", MODEL)
def compare_costs(pair: ModelPair, spec: PromotionSpec) -> tuple[Finding, ...]:
    """Compare time and memory of two models."""
    assert pair.champion is not None
    return cost_findings(*costs(load_model(pair.champion), load_model(pair.challenger), spec.timing_rounds), spec)


def evidence(challenger: str, frozen: FrozenTest, spec: PromotionSpec) -> Evidence:
    """Return the data, rules and code behind a verdict."""
    training, code = TrainingRecord.read(Path(challenger) / TRAINED_ON), code_tags()
    return Evidence(
        frozen.digest,
        len(frozen.samples),
        frozen.groups,
        training.data if training else "",
        asdict(spec),
        code[CODE_TAG],
        code[CODE_DIGEST_TAG],
    )


def show_decision(decision: Decision) -> None:
    """Show a decision on Prefect's page."""
    show_markdown(decision.to_markdown(), key="verdict", description=f"{decision.outcome.capitalize()}")
