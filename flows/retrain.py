"""The whole chain from images to champion, if there is a reason to train."""

from dataclasses import dataclass, replace

from prefect.states import Completed

from flows.prepare import prepare
from flows.promote import promote
from flows.recorded import recorded_flow
from flows.settings import Settings
from flows.train import Challenger, require_registry, train
from sgcldff.core.errors import PromotionRefusedError
from sgcldff.core.settings import Start
from sgcldff.data.adapters import Source
from sgcldff.promotion.retrain_policy import RetrainDecision
from tasks.retrain_policy import decide_retraining, measure_news
from tasks.workspace import Workspace

NOTHING_TO_DO = "Nothing to do"
"""Name of the final state of a run that found no reason to train; it triggers no promotion."""


@dataclass(frozen=True)
class Retrained:
    """The decision of a run, and its outcome."""

    challenger: Challenger | None
    """None if nothing was trained."""
    outcome: str
    """A sentence for people."""
    decision: RetrainDecision


@recorded_flow("retrain", "sources")
def retrain(
    sources: list[Source],
    workspace: str,
    settings: Settings | None = None,
    accelerator: str = "auto",
    promotion: bool = True,
    force: bool = False,
) -> Retrained:
    """Prepare new images and, if the policy finds a reason, train, evaluate, register and promote.

    Without a reason the run succeeds as "Nothing to do"; the figures are an artifact. A refused promotion is not a
    failure either: the champion stays in place, and the verdict is an artifact.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        workspace: Folder of the catalog, priors, models and runs.
        settings: Settings by stage, of which `retrain` is the policy; by default the built-in ones.
        accelerator: `auto`, `cpu` or `gpu`.
        promotion: Off: leave the promotion to a separate run.
        force: Train regardless of the policy.
    """
    spec, root = settings or Settings(), Workspace(workspace)
    require_registry(root)
    news = measure_news(prepare(sources, workspace, settings), root, spec.retrain.drift)
    decision = decide_retraining(news, spec.retrain, root, force)
    if not decision.retrain:
        done = Retrained(None, decision.outcome, decision)
        return Completed(name=NOTHING_TO_DO, message=done.outcome, data=done)  # type: ignore[return-value]  # unwrapped
    warm = spec.retrain.start is Start.CHAMPION
    challenger = train(workspace, settings, accelerator, news.champion if warm else None)
    name = f"models:/{challenger.model.name}/{challenger.model.version}"
    outcome = f"{name} is challenger."
    if promotion:
        try:
            outcome = str(promote(workspace, name, settings))
        except PromotionRefusedError as refusal:
            outcome = str(refusal)
    return Retrained(challenger, outcome, decision)


def with_start(settings: Settings, warm: bool | None) -> Settings:
    """Set which weights a retraining starts from; None leaves it to the settings."""
    if warm is None:
        return settings
    return replace(settings, retrain=replace(settings.retrain, start=Start.CHAMPION if warm else Start.SCRATCH))
