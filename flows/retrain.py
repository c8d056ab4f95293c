"""The chain: images to champion."""

from prefect import flow
from prefect.logging import get_run_logger

from flows.prepare import prepare
from flows.promote import promote
from flows.settings import Settings
from flows.train import Challenger, train
from sgcldff.datasets import Source
from sgcldff.errors import PromotionRefusedError


@flow(name="retrain", flow_run_name="retrain")
def retrain(
    sources: list[Source], workspace: str, settings: Settings | None = None, accelerator: str = "auto"
) -> Challenger:
    """Prepare what is new, train, evaluate, register and promote if the challenger earned it.

    A refusal is not a failure: the run ends well with the former champion in place, and the verdict is an artifact.
    """
    prepare(sources, workspace, settings)
    challenger = train(workspace, settings, accelerator)
    try:
        promote(workspace, f"models:/{challenger.model.name}/{challenger.model.version}", settings)
    except PromotionRefusedError as refusal:
        get_run_logger().warning("%s", refusal)
    return challenger
