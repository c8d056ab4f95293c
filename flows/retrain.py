"""The chain: images to champion."""

from dataclasses import dataclass

from prefect import flow

from flows.prepare import prepare
from flows.promote import promote
from flows.settings import Settings
from flows.train import Challenger, require_registry, train
from sgcldff.datasets import Source
from sgcldff.errors import PromotionRefusedError
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Retrained:
    """A challenger, and what became of it."""

    challenger: Challenger
    refused: str | None
    """Why it did not become champion; None where it did."""


@flow(name="retrain", flow_run_name="retrain")
def retrain(
    sources: list[Source], workspace: str, settings: Settings | None = None, accelerator: str = "auto"
) -> Retrained:
    """Prepare what is new, train, evaluate, register and promote if the challenger earned it.

    A refusal is not a failure: the run ends well with the former champion in place, and the verdict is an artifact.
    """
    require_registry(Workspace(workspace))
    prepare(sources, workspace, settings)
    challenger = train(workspace, settings, accelerator)
    try:
        promote(workspace, f"models:/{challenger.model.name}/{challenger.model.version}", settings)
    except PromotionRefusedError as refusal:
        return Retrained(challenger, str(refusal))
    return Retrained(challenger, None)
