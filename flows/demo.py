"""The whole pipeline on synthetic smears with ground truth; needs no data, network connection or server."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import pyarrow.parquet as pq
from rich.table import Table

from flows.environment import database_address
from flows.infer import infer
from flows.recorded import recorded_flow
from flows.retrain import retrain
from flows.settings import read_settings
from sgcldff.core.errors import SgcldffError
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.locations import shown
from sgcldff.core.settings import CELL_UM
from sgcldff.counting.differential import Differential, differential, read_differential
from sgcldff.data.adapters import Source
from sgcldff.data.synthetic import write_dataset, write_slide
from sgcldff.evaluation.matching import Matching, match_cells
from tasks.policy import DATA
from tasks.stages import stage
from tasks.workspace import Workspace

CROPS, FIELDS = 700, 80
CELLS_PER_MPX = 2.5
"""White blood cells on the slide per million px: about 170 on 8192 x 8192."""
MIN_RECALL, MIN_PRECISION = 0.95, 0.95
"""Detection quality below which the demo fails."""


@dataclass(frozen=True)
class DemoResult:
    """The demo's results beside the ground truth."""

    matching: Matching
    correct: int
    """Matched cells that are classified correctly."""
    predicted: Differential
    truth: Differential
    report: str
    mlflow: str
    """Command that opens MLflow's page."""
    prefect: str
    """Command that opens Prefect's page."""


@stage("make-smears", DATA)
def make_smears(out: str, side: int) -> tuple[str, str, str]:
    """Write training smears and a slide; returns the paths of the smears, the slide and its ground truth."""
    folder = Path(out)
    smears = write_dataset(folder / "smears", CROPS, FIELDS, seed=1)
    cells = round(CELLS_PER_MPX * side * side / 1e6)
    slide = write_slide(folder / "slide.tiff", (side, side), cells=cells, seed=2)
    return str(smears), str(slide.slide), str(slide.truth)


@recorded_flow("demo", "out")
def demo(out: str, side: int = 8192, epochs: int = 3) -> DemoResult:
    """Make smears and a slide, train, promote, read the slide and compare with the ground truth.

    Raises
    ------
    SgcldffError
        If recall or precision of the detected cells is below 95 %.
    """
    workspace = str(Path(out) / "workspace")
    settings = read_settings(None, {"train": {"epochs": epochs}})
    smears, slide, truth = make_smears(out, side)
    retrain([Source("table", smears)], workspace, settings, "cpu", force=True)
    (folder,) = infer([slide], f"{out}/results", workspace, "models:/sgcldff@champion", settings=settings)
    result = compare_with_truth(Path(folder), Path(truth), Workspace(workspace))
    require_quality(result.matching)
    return result


def require_quality(matching: Matching) -> None:
    """Raise `SgcldffError` unless recall and precision are high enough."""
    if matching.recall < MIN_RECALL or matching.precision < MIN_PRECISION:
        raise SgcldffError(
            f"the demo found {matching.recall:.1%} of the cells, and {1 - matching.precision:.1%} of its detections are"
            f" false; at least {MIN_RECALL:.0%} and at most {1 - MIN_PRECISION:.0%} are expected: train longer with"
            " --epochs"
        )


def compare_with_truth(result: Path, truth: Path, workspace: Workspace) -> DemoResult:
    """Match the detected cells of a slide with the true ones, at most half a cell's width apart."""
    tables = pq.read_table(result / "cells.parquet"), pq.read_table(truth)
    points = [np.column_stack([table.column(axis).to_numpy() for axis in ("x_um", "y_um")]) for table in tables]
    matching = match_cells(points[0], points[1], CELL_UM / 2)
    home = Path(workspace.root) / "prefect"
    variables = {"PREFECT_HOME": str(home)} | database_address(home)
    predicted, true = (table.column("label").to_pylist() for table in tables)
    return DemoResult(
        matching,
        sum(predicted[i] == true[j] for i, j in matching.pairs),
        read_differential(result / "differential.json"),
        differential(true, FIVE_TYPES),
        str(result / "report.html"),
        f"mlflow ui --backend-store-uri {quote(shown(workspace.tracking_uri))}",
        f"{' '.join(f'{name}={quote(value)}' for name, value in variables.items())} prefect server start",
    )


def summary(result: DemoResult) -> Table:
    """Return a table of the predicted and the true differential."""
    matching = result.matching
    detection = f"{matching.recall:.1%} of {matching.true} cells found, {matching.false_positives} false detections"
    table = Table(
        "type", "predicted", "95 % interval", "truth", title=f"{detection}, {result.correct} classified correctly"
    )
    for true in result.truth.shares:
        share = result.predicted[true.label]
        table.add_row(
            true.label, f"{share.share:.1%} ({share.count})", f"{share.low:.1%} - {share.high:.1%}", f"{true.share:.1%}"
        )
    return table
