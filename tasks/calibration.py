"""The task that calibrates a model and registers the result."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sgcldff.core.records import ModelRef, Split
from sgcldff.data.catalog import Catalog
from sgcldff.data.catalog.paths import MANIFEST
from sgcldff.evaluation.calibration.laboratory import LabCalibration, calibrate_for_lab, reviewed_cells
from sgcldff.models.checkpoint import open_spec, saved_digest
from sgcldff.registry import ORIGINAL_TAG, ChosenModel, Registry
from tasks.artifacts import show_table
from tasks.policy import MODEL
from tasks.stages import stage
from tasks.tracking import dated
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and the version that it gave."""

    calibration: LabCalibration
    model: ModelRef | None
    """None if calibration does not help, and nothing was registered."""
    left_out: tuple[str, ...]
    """Reviewed cells that could not be used, with reasons."""


@stage("calibrate", MODEL, subject=lambda reviews, original, _: f"{original.model.name} {original.model.version}")
def calibrate_model(reviews: str, original: ChosenModel, workspace: Workspace) -> Calibrated:
    """Calibrate a model on reviewed cells and register the result as challenger, if it helps.

    Cells on slides of the frozen test set, and of the catalog's test split, are left out. The original is registered,
    too, so that a rollback can restore it.
    """
    registry = Registry(workspace.tracking_uri)
    frozen = registry.test_set()
    test = list(frozen.samples) if frozen else []
    if (workspace.catalog / MANIFEST).is_file():
        test += Catalog.open(workspace.catalog).select(Split.TEST)
    samples, left_out = reviewed_cells(reviews, open_spec(original.folder).labels, test)
    with TemporaryDirectory() as scratch:
        calibration = calibrate_for_lab(original.folder, samples, Path(scratch) / "model")
        columns = ("score", "as it was", "calibrated")
        show_table([dict(zip(columns, row, strict=True)) for row in calibration.rows], "calibration", str(calibration))
        if calibration.folder is None:
            return Calibrated(calibration, None, left_out)
        known = registry.with_weights(saved_digest(calibration.folder))
        if known is not None:
            return Calibrated(calibration, known.ref, left_out)
        found = registry.with_weights(original.model.digest)
        parent = found.ref if found else registry.adopt(original.model, original.folder)
        title = dated(f"{original.model.name} {original.model.version} calibrated")
        model = registry.register(calibration.folder, tags={ORIGINAL_TAG: parent.version}, title=title)
    return Calibrated(calibration, model, left_out)
