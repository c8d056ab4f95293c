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
    outcome: str
    """In words."""


@flow(name="retrain", flow_run_name="retrain")
def retrain(
    sources: list[Source],
    workspace: str,
    settings: Settings | None = None,
    accelerator: str = "auto",
    promotion: bool = True,
) -> Retrained:
    """Prepare what is new, train, evaluate, register and promote if the challenger earned it.

    A refusal is not a failure: the run ends well with the former champion in place, and the verdict is an artifact.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder, and um/px where the adapter
            cannot know it.
        workspace: Folder of the catalog, priors, models and runs.
        settings: Settings by stage; defaults where left out.
        accelerator: `auto`, `cpu` or `gpu`.
        promotion: Off: leave the promotion to a run of its own.
    """
    require_registry(Workspace(workspace))
    prepare(sources, workspace, settings)
    challenger = train(workspace, settings, accelerator)
    name = f"models:/{challenger.model.name}/{challenger.model.version}"
    if not promotion:
        return Retrained(challenger, f"{name} is challenger.")
    try:
        return Retrained(challenger, str(promote(workspace, name, settings)))
    except PromotionRefusedError as refusal:
        return Retrained(challenger, str(refusal))
