"""A catalog to a registered challenger."""

from dataclasses import dataclass

from flows.recorded import recorded_flow
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


@recorded_flow("train", "workspace")
def train(
    workspace: str,
    settings: Settings | None = None,
    accelerator: str = "auto",
    parent: str | None = None,
    teacher: str | None = None,
) -> Challenger:
    """Train on the workspace's catalog, evaluate on its test split, register as challenger.

    An interrupted run resumes at its last checkpoint; a finished one is not repeated.

    Args:
        workspace: Folder of the catalog, priors, models and runs.
        settings: Settings by stage; by default the built-in ones.
        accelerator: `auto`, `cpu` or `gpu`.
        parent: Model whose weights the training starts from: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or a folder.
        teacher: Model that outlines cells in training images without masks, named likewise.
    """
    spec, root = settings or Settings(), Workspace(workspace)
    require_registry(root)
    prepared: Prepared = precompute_priors(str(root.catalog), root, spec.prior)
    registry = Registry(root.tracking_uri)
    parent_folder, teacher_folder = (model and str(registry.resolve(model)[1]) for model in (parent, teacher))
    job = TrainJob(prepared, spec.net, spec.prior, spec.train, parent_folder, teacher=teacher_folder)
    training = train_model(job, root, accelerator)
    model = describe_model(prepared, training)
    samples = Catalog.open(prepared.catalog).select(Split.TEST)
    evaluation = evaluate_model(EvalJob(model, samples, spec.evaluate), root)
    return Challenger(register_model(job, training, evaluation, root), training, evaluation)


def require_registry(workspace: Workspace) -> None:
    """Raise `ServiceError` if MLflow does not answer, before hours of training rather than after them."""
    Registry(workspace.tracking_uri).aliases()
