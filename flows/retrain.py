"""The chain: images to champion, if there is a reason to train."""

from dataclasses import dataclass, replace

from prefect import flow
from prefect.states import Completed, State

from flows.prepare import prepare
from flows.promote import promote
from flows.settings import Settings
from flows.train import Challenger, require_registry, train
from sgcldff.core.errors import PromotionRefusedError
from sgcldff.core.settings import Start
from sgcldff.data.adapters import Source
from sgcldff.promotion.retrain_policy import Decision
from tasks.retrain_policy import decide_retraining, measure_news
from tasks.workspace import Workspace

NOTHING = "Nothing to do"
"""Name of the state in which a run ends that found no reason to train; it sets no promotion off."""


@dataclass(frozen=True)
class Retrained:
    """What a run decided, and what became of it."""

    challenger: Challenger | None
    """None where there was nothing to do."""
    outcome: str
    """In words."""
    decision: Decision


@flow(name="retrain", flow_run_name="retrain")
def retrain(
    sources: list[Source],
    workspace: str,
    settings: Settings | None = None,
    accelerator: str = "auto",
    promotion: bool = True,
    force: bool = False,
) -> Retrained:
    """Prepare what is new and, if the policy finds a reason, train, evaluate, register and promote.

    Without a reason the run ends well as "Nothing to do"; the figures are an artifact. A refused promotion is not a
    failure either: the former champion stays in place, and the verdict is an artifact.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        workspace: Folder of the catalog, priors, models and runs.
        settings: Settings by stage; defaults where left out. `retrain` holds the policy.
        accelerator: `auto`, `cpu` or `gpu`.
        promotion: Off: leave the promotion to a run of its own.
        force: Train whatever the policy says.
    """
    chosen, place = settings or Settings(), Workspace(workspace)
    require_registry(place)
    news = measure_news(prepare(sources, workspace, settings), place, chosen.retrain.drift)
    decision = decide_retraining(news, chosen.retrain, place, force)
    if not decision.retrain:
        return ended(Retrained(None, decision.outcome, decision))
    warm = chosen.retrain.start is Start.CHAMPION
    challenger = train(workspace, settings, accelerator, news.champion if warm else None)
    return Retrained(challenger, promoted(challenger, workspace, settings, promotion), decision)


def starting(settings: Settings, warm: bool | None) -> Settings:
    """Choose which weights a retraining begins with; None leaves it to the settings."""
    if warm is None:
        return settings
    return replace(settings, retrain=replace(settings.retrain, start=Start.CHAMPION if warm else Start.SCRATCH))


def ended(done: Retrained) -> Retrained | State[Retrained]:
    """End the run in a state of its own."""
    return Completed(name=NOTHING, message=done.outcome, data=done)


def promoted(challenger: Challenger, workspace: str, settings: Settings | None, promotion: bool) -> str:
    """Let the challenger try for the champion's place, if that is wanted; says what became of it."""
    name = f"models:/{challenger.model.name}/{challenger.model.version}"
    if not promotion:
        return f"{name} is challenger."
    try:
        return str(promote(workspace, name, settings))
    except PromotionRefusedError as refusal:
        return str(refusal)
