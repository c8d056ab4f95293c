"""Reviewed cells of a laboratory to a model that is calibrated for it."""

from flows.recorded import recorded_flow
from sgcldff.registry import choose_model
from sgcldff.registry.default_model import original_of
from tasks.calibration import Calibrated, calibrate_model
from tasks.workspace import Workspace


@recorded_flow("calibrate", "reviews")
def calibrate(reviews: str, workspace: str, model: str | None = None) -> Calibrated:
    """Fit the types of a model to a laboratory's reviewed cells, without training, and register it as challenger.

    Nothing is registered unless cross-validation shows that it helps. A model that is calibrated already is replaced by
    its original, which is calibrated on all the cells.

    Args:
        reviews: Folder of the reviews, as `sgcldff review read` fills it.
        workspace: Folder of the registry.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released` or a folder; by default the champion, or the
            released model if there is no champion.
    """
    root = Workspace(workspace)
    return calibrate_model(reviews, original_of(root.tracking_uri, choose_model(root.tracking_uri, model)), root)
