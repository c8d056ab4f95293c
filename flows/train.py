"""Catalog to registered challenger."""

from dataclasses import dataclass

from prefect import flow

from flows.settings import Settings
from sgcldff.core.records import ModelRef, Split
from sgcldff.data.catalog import Catalog
from sgcldff.registry import Registry
from tasks.data import Prepared, precompute_priors
from tasks.evaluation import EvalJob, evaluate_model
from tasks.retrain_policy import describe_model
from tasks.training import TrainJob, register_model, train_model
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Challenger:
    """A registered model with the folders of its training and its evaluation on the test split."""

    model: ModelRef
    training: str
    evaluation: str


@flow(name="train", flow_run_name="train")
def train(
    workspace: str, settings: Settings | None = None, accelerator: str = "auto", parent: str | None = None
) -> Challenger:
    """Train on the workspace's catalog, evaluate on its test split, register as challenger.

    A run that was interrupted goes on at its last checkpoint; one that is finished is not repeated.

    Args:
        workspace: Folder of the catalog, priors, models and runs.
        settings: Settings by stage; defaults where left out.
        accelerator: `auto`, `cpu` or `gpu`.
        parent: Model whose weights the training begins with: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or a folder.
    """
    chosen, place = settings or Settings(), Workspace(workspace)
    require_registry(place)
    prepared: Prepared = precompute_priors(str(place.catalog), place, chosen.prior)
    begun = str(Registry(place.tracking_uri).resolve(parent)[1]) if parent else None
    job = TrainJob(prepared, chosen.net, chosen.prior, chosen.train, begun)
    training = train_model(job, place, accelerator)
    model = describe_model(prepared, training)
    samples = Catalog.open(prepared.catalog).select(Split.TEST)
    evaluation = evaluate_model(EvalJob(model, samples, chosen.evaluate), place)
    return Challenger(register_model(job, training, evaluation, place), training, evaluation)


def require_registry(place: Workspace) -> None:
    """Raise `ServiceError` where MLflow does not answer: now, not after hours of training."""
    Registry(place.tracking_uri).aliases()
