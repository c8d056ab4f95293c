"""Promotion of a challenger to champion, or its refusal with reasons; approval and rejection; rollback."""

from dataclasses import dataclass
from pathlib import Path

from flows.recorded import recorded_flow
from flows.settings import Settings
from sgcldff.core.errors import InputError, PromotionRefusedError
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import Perturbation
from sgcldff.evaluation import Predictions
from sgcldff.evaluation.report import PREDICTIONS_FILE
from sgcldff.models.checkpoint import saved_digest
from sgcldff.promotion import Attribution, Decision, Finding, Outcome
from sgcldff.promotion.decision_record import best_champion, require_approvable, require_not_held
from sgcldff.promotion.frozen_test_set import LocatedTest
from sgcldff.promotion.record_chain import signing_key
from sgcldff.registry import CHAMPION, Registry
from tasks.evaluation import EvalJob, evaluate_model
from tasks.promotion import (
    basis_of,
    freeze_test_set,
    locate_test_set,
    predict_corrupted,
    show_decision,
)
from tasks.tracking import record_evaluation
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Promotion:
    """A challenger that was not refused."""

    model: ModelRef
    outcome: Outcome

    def __str__(self) -> str:
        name = f"models:/{self.model.name}/{self.model.version}"
        if self.outcome is Outcome.WAITING:
            return f"{name} waits for approval: `sgcldff registry approve {name}`, or `reject`."
        return f"{name} is champion."


@recorded_flow("promote", "model")
def promote(
    workspace: str,
    model: str = "models:/sgcldff@challenger",
    settings: Settings | None = None,
    by: str | None = None,
    overrule: bool = False,
) -> Promotion:
    """Compare a challenger with the champion on the frozen test set, and promote or refuse it.

    The first promotion freezes the catalog's test split. Every decision is recorded with the version. If the settings
    require approval, or a class has too few cases to be judged, the alias does not move before a person approves.

    Args:
        workspace: Folder of the catalog, priors, models and runs.
        model: The challenger: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        settings: Settings by stage; by default the built-in ones.
        by: Who promotes, for the record; by default the account that runs this.
        overrule: Judge a version again although it was rejected by a person or rolled back.

    Raises
    ------
    PromotionRefusedError
        If the challenger breaks a rule; the message gives the reasons.
    """
    signing_key()  # one that cannot be used is reported before the evaluation
    spec, root = settings or Settings(), Workspace(workspace)
    registry = Registry(root.tracking_uri)
    challenger, folder = registry.resolve(model)
    champion_version = registry.aliases().get(CHAMPION)
    if champion_version == challenger.version and challenger.name == registry.name:
        return Promotion(challenger, Outcome.PROMOTED)
    if not overrule:
        require_not_held(registry.decision(challenger))
    champion, champion_folder = (
        registry.resolve(f"models:/{registry.name}/{champion_version}") if champion_version else (None, None)
    )
    located = locate_test_set(freeze_test_set(root, Attribution.now(by)), root)

    def predictions(model: str, test: LocatedTest, kind: Perturbation | None) -> Predictions:
        if kind is not None:
            return Predictions.open(predict_corrupted(model, test, kind, root))
        report = evaluate_model(EvalJob(model, test.samples, spec.evaluate), root)
        record_evaluation(report, root.tracking_uri)
        return Predictions.open(Path(report) / PREDICTIONS_FILE)

    best = champion and best_champion(registry.all_decisions(), champion, located.frozen.digest)
    best_folder = registry.resolve(f"models:/{best.name}/{best.version}")[1] if best else None
    from sgcldff.promotion import judge  # loads torch, which approvals and rollbacks do not need

    verdict = judge(folder, champion_folder, located, root.catalog, spec.promote, spec.ingest, predictions, best_folder)
    basis = basis_of(folder, located.frozen, spec.promote)
    outcome = Outcome.REFUSED
    if verdict.promote:
        asked = spec.promote.approval or (spec.promote.approve_rare and verdict.rare)
        outcome = Outcome.WAITING if asked else Outcome.PROMOTED
    carry_out(registry, Decision(outcome, Attribution.now(by), challenger, champion, basis, verdict.findings))
    if outcome is Outcome.REFUSED:
        raise PromotionRefusedError(f"{model} stays challenger: {'; '.join(verdict.reasons)}")
    return Promotion(challenger, outcome)


def carry_out(registry: Registry, decision: Decision) -> None:
    """Record a decision and, if it is a promotion, move the alias from the champion that was compared with.

    Raises
    ------
    PromotionRefusedError
        If another promotion came first; the record then says so.
    """
    try:
        if decision.outcome is Outcome.PROMOTED:
            expected = {CHAMPION: decision.champion.version} if decision.champion else {}
            registry.promote(decision.challenger, expected, decision)
        else:
            registry.record(decision)
        show_decision(decision)
    except PromotionRefusedError as error:
        refusal = decision.refused(Finding("turn", False, str(error)))
        registry.record(refusal)
        show_decision(refusal)
        raise


@recorded_flow("approve", "model")
def approve(workspace: str, model: str, by: str | None = None) -> ModelRef:
    """Promote a version that waits for approval, if nothing has changed since it was judged.

    Args:
        workspace: Folder of the registry.
        model: The version: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        by: Who approves, for the record; by default the account that runs this.

    Raises
    ------
    PromotionRefusedError
        If the version does not wait for approval, or the champion, weights or test set have changed.
    """
    registry = Registry(Workspace(workspace).tracking_uri)
    challenger, folder = registry.resolve(model)
    frozen = registry.test_set()
    waiting = require_approvable(
        registry.decision(challenger),
        saved_digest(folder),
        registry.aliases().get(CHAMPION),
        frozen.digest if frozen else None,
    )
    carry_out(registry, waiting.approved(Attribution.now(by)))
    return challenger


@recorded_flow("reject", "model")
def reject(workspace: str, model: str, because: str, by: str | None = None) -> ModelRef:
    """Reject a version, so that no later promotion considers it again.

    Args:
        workspace: Folder of the registry.
        model: The version: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        because: The reason, for the record.
        by: Who rejects, for the record; by default the account that runs this.

    Raises
    ------
    InputError
        If no reason is given, or the version is champion or was never judged.
    """
    registry = Registry(Workspace(workspace).tracking_uri)
    challenger, _ = registry.resolve(model)
    if not because.strip():
        raise InputError("no reason is given: say why it is rejected, for those who read the record later")
    if registry.champion() == f"models:/{challenger.name}/{challenger.version}":
        raise InputError(f"{model} is champion: restore the previous one with `sgcldff rollback`")
    last = registry.decision(challenger)
    if last is None:
        raise InputError(f"{model} was never judged: run `sgcldff promote` first")
    carry_out(registry, last.rejected(Attribution.now(by), because))
    return challenger


@recorded_flow("rollback", "workspace")
def rollback(workspace: str, by: str | None = None) -> ModelRef:
    """Make the previous champion champion again.

    Args:
        workspace: Folder of the registry.
        by: Who restores it, for the record; by default the account that runs this.
    """
    registry = Registry(Workspace(workspace).tracking_uri)
    champion = registry.rollback(Attribution.now(by))
    record = registry.decision(champion)
    if record is not None:
        show_decision(record)
    return champion
