"""Tasks that decide whether a challenger becomes champion, and keep the record."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from sgcldff.core.records import Split
from sgcldff.core.settings import EvalSpec, IngestSpec, Perturbation, PromotionSpec, digest
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation import Predictions
from sgcldff.evaluation.corruptions import change_of
from sgcldff.evaluation.evaluate import predict
from sgcldff.evaluation.report import PREDICTIONS_FILE
from sgcldff.models.model import load_model
from sgcldff.promotion import Decision, Evidence, Finding, FrozenTest, Signature, Verdict, compare
from sgcldff.promotion.cost import cost_findings, costs
from sgcldff.promotion.frozen_test_set import Located
from sgcldff.promotion.leakage import Training, champion_leak_finding, find_leaks, known_images, leak_finding
from sgcldff.promotion.rules import mean_score
from sgcldff.registry import CODE_DIGEST_TAG, CODE_TAG, TRAINED_ON, Registry, code_tags
from tasks.artifacts import show_markdown
from tasks.evaluation import keep
from tasks.policy import MODEL
from tasks.progress import bar
from tasks.stages import stage
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Rivals:
    """Folders of the models between which is decided."""

    challenger: str
    champion: str | None
    """None where there is no champion yet."""


@stage("freeze-test-set", MODEL)
def freeze_test_set(workspace: Workspace, signed: Signature) -> FrozenTest:
    """Give the test set on which promotions are decided; where none was frozen before, the catalog's test split is.

    Raises
    ------
    InputError
        If no image is in the test split.
    """
    registry = Registry(workspace.tracking_uri)
    former = registry.test_set()
    if former is not None:
        return former
    return registry.freeze(FrozenTest.of(Catalog.open(workspace.catalog).select(Split.TEST)), signed, anew=False)


@stage("locate-test-set", MODEL)
def locate_test_set(frozen: FrozenTest, workspace: Workspace) -> Located:
    """Find the images of the frozen test set by their content, and check every byte."""
    return frozen.locate(Catalog.open(workspace.catalog).samples)


@stage("check-leakage", MODEL)
def check_leakage(rivals: Rivals, located: Located, workspace: Workspace, spec: IngestSpec) -> tuple[Finding, ...]:
    """Find whether a model learned from the test set."""
    training = Training.read(Path(rivals.challenger) / TRAINED_ON)
    known = known_images(workspace.catalog)
    leaks = find_leaks(training, located.samples, known, spec) if training else None
    former = Training.read(Path(rivals.champion) / TRAINED_ON) if rivals.champion else None
    unfair = champion_leak_finding(former, located.samples)
    return leak_finding(leaks), *([unfair] if unfair else [])


@stage("compare", MODEL)
def compare_evaluations(champion: str, challenger: str, spec: PromotionSpec) -> tuple[Finding, ...]:
    """Compare two evaluations of the same images."""
    former, latter = (Predictions.open(Path(folder) / PREDICTIONS_FILE) for folder in (champion, challenger))
    return compare(former, latter, spec).findings


@stage("compare-changed", MODEL)
def compare_changed(
    rivals: Rivals, located: Located, kind: Perturbation, workspace: Workspace, spec: PromotionSpec
) -> Finding:
    """Compare two models on images that are changed alike."""
    assert rivals.champion is not None
    sides = [_changed(folder, located, kind, workspace) for folder in (rivals.champion, rivals.challenger)]
    return mean_score(sides[0], sides[1], f"score under {kind}", spec.robustness_margin, spec.evaluation)


def _changed(folder: str, located: Located, kind: Perturbation, workspace: Workspace) -> Predictions:
    """Ask a model about changed images, or find what it said before."""
    model = load_model(folder)
    asked = sorted(sample.id for sample in located.samples)
    key = digest((model.digest, located.frozen.digest, asked, kind.value, PromotionSpec.version, EvalSpec.version))
    kept = workspace.evaluation(key) / PREDICTIONS_FILE
    if not kept.is_file():
        with bar(f"evaluate under {kind}") as progress:
            found, _ = predict(model, located.samples, progress, change=change_of(kind), explained=False)
        keep(found, kept)
    return Predictions.open(kept)


@stage("compare-costs", MODEL)
def compare_costs(rivals: Rivals, spec: PromotionSpec) -> tuple[Finding, ...]:
    """Time two models in turns, and compare their memory."""
    assert rivals.champion is not None
    return cost_findings(*costs(load_model(rivals.champion), load_model(rivals.challenger), spec.timing_rounds), spec)


def evidence(challenger: str, frozen: FrozenTest, spec: PromotionSpec) -> Evidence:
    """Say on what a verdict rests."""
    training, code = Training.read(Path(challenger) / TRAINED_ON), code_tags()
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


def joined(*parts: Sequence[Finding]) -> Verdict:
    """Make one verdict of the findings of several rules."""
    return Verdict(tuple(chain(*parts)))
