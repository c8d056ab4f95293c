"""Challenger to champion, or a refusal with reasons; and the way back."""

from prefect import flow

from flows.settings import Settings
from sgcldff.catalog import Catalog
from sgcldff.errors import InputError, PromotionRefusedError
from sgcldff.records import ModelRef, Split
from sgcldff.registry import CHAMPION, Registry
from tasks.modelling import EvalJob, decide, evaluate_model
from tasks.workspace import Workspace


@flow(name="promote", flow_run_name="promote")
def promote(workspace: str, model: str = "models:/sgcldff@challenger", settings: Settings | None = None) -> ModelRef:
    """Compare a challenger with the champion on the catalog's test split and move the alias, or refuse.

    Args:
        workspace: Folder of the catalog, priors, models and runs.
        model: The challenger: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        settings: Settings by stage; defaults where left out.

    Raises
    ------
    PromotionRefusedError
        If the challenger did not earn it; the message gives the reasons.
    """
    chosen, place = settings or Settings(), Workspace(workspace)
    registry = Registry(place.tracking_uri)
    challenger, challenger_folder = registry.resolve(model)
    seen = registry.aliases()
    held = seen.get(CHAMPION)
    if held == challenger.version:
        return challenger
    samples = Catalog.open(place.catalog).select(Split.TEST)
    if not samples:
        raise InputError(f"{place.catalog}: no image is in the test split; ingest more images")

    def score(folder: str) -> str:
        return evaluate_model(EvalJob(folder, samples, chosen.evaluate), place)

    former = score(str(registry.resolve(f"models:/{registry.name}/{held}")[1])) if held else None
    verdict = decide(former, score(str(challenger_folder)), chosen.promote)
    if not verdict.promote:
        raise PromotionRefusedError(f"{model} stays challenger: {'; '.join(verdict.reasons)}")
    registry.promote(challenger, seen)
    return challenger


@flow(name="rollback", flow_run_name="rollback")
def rollback(workspace: str) -> ModelRef:
    """Make the former champion champion again.

    Args:
        workspace: Folder of the registry.
    """
    return Registry(Workspace(workspace).tracking_uri).rollback()
