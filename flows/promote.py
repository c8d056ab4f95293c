"""Challenger to champion, or a refusal with reasons; a person's say; and the way back."""

from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from flows.settings import Settings
from sgcldff.core.errors import InputError, PromotionRefusedError
from sgcldff.core.records import ModelRef
from sgcldff.models.checkpoint import SPEC_FILE, read_spec, saved_digest
from sgcldff.promotion import Decision, Finding, Outcome, Signature, Verdict
from sgcldff.promotion.decision_record import require_approvable, require_not_held
from sgcldff.promotion.frozen_test_set import Located
from sgcldff.registry import CHAMPION, Registry
from tasks.evaluation import EvalJob, evaluate_model
from tasks.promotion import (
    Rivals,
    check_leakage,
    compare_changed,
    compare_costs,
    compare_evaluations,
    evidence,
    freeze_test_set,
    joined,
    locate_test_set,
    show_decision,
)
from tasks.workspace import Workspace

FIRST = Finding("champion", True, "there is no champion yet")


@dataclass(frozen=True)
class Promotion:
    """What became of a challenger that was not refused."""

    model: ModelRef
    outcome: Outcome

    def __str__(self) -> str:
        name = f"models:/{self.model.name}/{self.model.version}"
        if self.outcome is Outcome.WAITING:
            return f"{name} waits for approval: `sgcldff registry approve {name}`, or `reject`."
        return f"{name} is champion."


@flow(name="promote", flow_run_name="promote")
def promote(
    workspace: str,
    model: str = "models:/sgcldff@challenger",
    settings: Settings | None = None,
    by: str | None = None,
    overrule: bool = False,
) -> Promotion:
    """Compare a challenger with the champion on the frozen test set and move the alias, or refuse.

    The first promotion freezes the catalog's test split. Whatever is decided, the version keeps the record. Where the
    settings ask for a person's approval, nothing moves before it is given.

    Args:
        workspace: Folder of the catalog, priors, models and runs.
        model: The challenger: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        settings: Settings by stage; defaults where left out.
        by: Who promotes, for the record; the account that runs this where left out.
        overrule: Judge the version again although a person rejected it, or put the former champion back in its place.

    Raises
    ------
    PromotionRefusedError
        If the challenger did not earn it; the message gives the reasons.
    """
    chosen, place = settings or Settings(), Workspace(workspace)
    registry = Registry(place.tracking_uri)
    challenger, folder = registry.resolve(model)
    seen = registry.aliases()
    held = seen.get(CHAMPION)
    if held == challenger.version and challenger.name == registry.name:
        return Promotion(challenger, Outcome.PROMOTED)
    if not overrule:
        require_not_held(registry.decision(challenger))
    champion, former = registry.resolve(f"models:/{registry.name}/{held}") if held else (None, None)
    rivals = Rivals(str(folder), str(former) if former else None)
    located = locate_test_set(freeze_test_set(place, Signature.now(by)), place)
    verdict = judge(rivals, located, place, chosen)
    basis = evidence(rivals.challenger, located.frozen, chosen.promote)
    decision = Decision(outcome_of(verdict, chosen), Signature.now(by), challenger, champion, basis, verdict.findings)
    carry_out(registry, decision)
    if decision.outcome is Outcome.REFUSED:
        raise PromotionRefusedError(f"{model} stays challenger: {'; '.join(verdict.reasons)}")
    return Promotion(challenger, decision.outcome)


def outcome_of(verdict: Verdict, settings: Settings) -> Outcome:
    """Say what follows from a verdict."""
    if not verdict.promote:
        return Outcome.REFUSED
    return Outcome.WAITING if settings.promote.approval else Outcome.PROMOTED


def judge(rivals: Rivals, located: Located, place: Workspace, chosen: Settings) -> Verdict:
    """Hold all rules against a challenger; where the test set is not whole or leaks, no figure of it would count."""
    whole = located.finding()
    if not whole.passed:
        return Verdict((whole,))
    clean = (whole, *check_leakage(rivals, located, place, chosen.ingest))
    if not joined(clean).promote:
        return Verdict(clean)
    after = evaluate_model(EvalJob(rivals.challenger, located.samples, chosen.evaluate), place)
    if rivals.champion is None:
        return Verdict((*clean, FIRST))
    common = located.told_by(read_spec(Path(rivals.champion) / SPEC_FILE).labels)
    if len(common.samples) < len(located.samples):
        clean = (*clean, common.shared(located))
    if common.samples != located.samples:
        after = evaluate_model(EvalJob(rivals.challenger, common.samples, chosen.evaluate), place)
    before = evaluate_model(EvalJob(rivals.champion, common.samples, chosen.evaluate), place)
    spec = chosen.promote
    changed = [compare_changed(rivals, common, kind, place, spec) for kind in spec.robustness]
    return joined(clean, compare_evaluations(before, after, spec), changed, compare_costs(rivals, spec))


def carry_out(registry: Registry, decision: Decision) -> None:
    """Keep the record and, if it is a promotion, move the alias from the champion that the decision was about.

    Raises
    ------
    PromotionRefusedError
        If another promotion came first; the record then says so.
    """
    try:
        if decision.outcome is Outcome.PROMOTED:
            former = {CHAMPION: decision.champion.version} if decision.champion else {}
            registry.promote(decision.challenger, former, decision)
        else:
            registry.keep(decision.challenger, decision)
        show_decision(decision)
    except PromotionRefusedError as refusal:
        late = decision.refused(Finding("turn", False, str(refusal)))
        registry.keep(late.challenger, late)
        show_decision(late)
        raise


@flow(name="approve", flow_run_name="approve")
def approve(workspace: str, model: str, by: str | None = None) -> ModelRef:
    """Promote a version that waits for approval, if nothing has changed since it was judged.

    Args:
        workspace: Folder of the registry.
        model: The version: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        by: Who approves, for the record; the account that runs this where left out.

    Raises
    ------
    PromotionRefusedError
        If the version does not wait, or champion, weights or test set are others by now.
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
    carry_out(registry, waiting.approved(Signature.now(by)))
    return challenger


@flow(name="reject", flow_run_name="reject")
def reject(workspace: str, model: str, because: str, by: str | None = None) -> ModelRef:
    """Reject a version, so that no later promotion takes it up again.

    Args:
        workspace: Folder of the registry.
        model: The version: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        because: Why, for the record.
        by: Who rejects, for the record; the account that runs this where left out.

    Raises
    ------
    InputError
        If no reason is given, the version is champion, or it was never judged.
    """
    registry = Registry(Workspace(workspace).tracking_uri)
    challenger, _ = registry.resolve(model)
    if not because.strip():
        raise InputError("no reason is given: say why it is rejected, for those who read the record later")
    if registry.champion() == f"models:/{challenger.name}/{challenger.version}":
        raise InputError(f"{model} is champion: put the former one back with `sgcldff rollback`")
    former = registry.decision(challenger)
    if former is None:
        raise InputError(f"{model} was never judged: run `sgcldff promote` first")
    carry_out(registry, former.rejected(Signature.now(by), because))
    return challenger


@flow(name="rollback", flow_run_name="rollback")
def rollback(workspace: str, by: str | None = None) -> ModelRef:
    """Make the former champion champion again.

    Args:
        workspace: Folder of the registry.
        by: Who puts it back, for the record; the account that runs this where left out.
    """
    registry = Registry(Workspace(workspace).tracking_uri)
    champion = registry.rollback(Signature.now(by))
    record = registry.decision(champion)
    if record is not None:
        show_decision(record)
    return champion
