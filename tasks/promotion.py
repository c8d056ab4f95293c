"""Tasks that compare a challenger with the champion, and record the decision."""

from dataclasses import asdict
from pathlib import Path

from sgcldff.core.records import Split
from sgcldff.core.settings import EvalSpec, Perturbation, PromotionSpec, digest
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation.report import PREDICTIONS_FILE
from sgcldff.models.checkpoint import TRAINED_ON, saved_digest
from sgcldff.promotion import Attribution, Basis, Decision, FrozenTest
from sgcldff.promotion.frozen_test_set import LocatedTest
from sgcldff.promotion.leakage import TrainingRecord
from sgcldff.registry import CODE_DIGEST_TAG, CODE_TAG, Registry, code_tags
from tasks.artifacts import show_markdown
from tasks.policy import MODEL
from tasks.progress import bar
from tasks.stages import stage
from tasks.workspace import Workspace


@stage("freeze-test-set", MODEL)
def freeze_test_set(workspace: Workspace, signed: Attribution) -> FrozenTest:
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


@stage("evaluate-corrupted", MODEL, subject=lambda folder, test, kind, _: f"by {kind}, model {saved_digest(folder)}")
def predict_corrupted(folder: str, test: LocatedTest, kind: Perturbation, workspace: Workspace) -> str:
    """Predict corrupted images, or find earlier predictions; returns their file."""
    from sgcldff.evaluation.corruptions import corruption
    from sgcldff.evaluation.evaluate import predict
    from sgcldff.models.model import cached_model

    ids = sorted(sample.id for sample in test.samples)
    key = digest((saved_digest(folder), test.frozen.digest, ids, kind.value, PromotionSpec.version, EvalSpec.version))
    path = workspace.evaluation(key) / PREDICTIONS_FILE
    if not path.is_file():
        with bar(f"evaluate under {kind}") as progress:
            predictions, _ = predict(
                cached_model(folder), test.samples, progress, change=corruption(kind), explained=False
            )
        predictions.save(path)
    return str(path)


def basis_of(challenger: str | Path, frozen: FrozenTest, spec: PromotionSpec) -> Basis:
    """Return the data, rules and code that a verdict rests on."""
    training, code = TrainingRecord.read(Path(challenger) / TRAINED_ON), code_tags()
    return Basis(
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
