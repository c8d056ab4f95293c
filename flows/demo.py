"""The whole job on made-up smears with known truth: no data, no network, no server needed."""

from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import numpy as np
import pyarrow.parquet as pq
from prefect import flow
from rich.table import Table

from flows.environment import database_address
from flows.infer import infer
from flows.retrain import retrain
from flows.settings import Settings, read_settings
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
"""White cells on the slide per million px: about 170 on 8192 x 8192."""
MIN_RECALL, MAX_FALSE = 0.95, 0.05
"""What the demo has to reach: share of true cells found, share of found cells that are none."""


@dataclass(frozen=True)
class Found:
    """The demo's outcome beside the truth."""

    matching: Matching
    right: int
    """Matched cells whose type is right."""
    told: Differential
    truth: Differential
    report: str
    mlflow: str
    """Command that opens MLflow's page."""
    prefect: str = field(default="PREFECT_HOME={}/prefect prefect server start", kw_only=True)
    """Command that opens Prefect's page."""


@stage("make-smears", DATA)
def make_smears(out: str, side: int) -> tuple[str, str, str]:
    """Write training smears and a slide; returns the folder, the slide and its truth."""
    place = Path(out)
    smears = write_dataset(place / "smears", CROPS, FIELDS, seed=1)
    cells = round(CELLS_PER_MPX * side * side / 1e6)
    slide = write_slide(place / "slide.tiff", (side, side), cells=cells, seed=2)
    return str(smears), str(slide.slide), str(slide.truth)


@flow(name="demo", flow_run_name="demo")
def demo(out: str, side: int = 8192, epochs: int = 4) -> Found:
    """Make smears and a slide, train, promote, read the slide and compare with the truth.

    Raises
    ------
    SgcldffError
        If fewer than 95 % of the cells are found or more than 5 % of the found cells are none.
    """
    workspace = str(Path(out) / "workspace")
    settings = demo_settings(epochs)
    smears, slide, truth = make_smears(out, side)
    retrain([Source("table", smears)], workspace, settings, "cpu", force=True)
    (result,) = infer([slide], f"{out}/results", workspace, "models:/sgcldff@champion", settings=settings)
    found = compare(Path(result), Path(truth), Workspace(workspace))
    require_quality(found.matching)
    return found


def require_quality(matching: Matching) -> None:
    """Raise `SgcldffError` unless enough cells are found and few are invented."""
    false = 1 - matching.precision
    if matching.recall < MIN_RECALL or false > MAX_FALSE:
        raise SgcldffError(
            f"the demo found {matching.recall:.1%} of the cells and {false:.1%} false ones; at least {MIN_RECALL:.0%} "
            f"and at most {MAX_FALSE:.0%} are expected: train longer with --epochs"
        )


def demo_settings(epochs: int) -> Settings:
    """Give settings for a short run from random weights."""
    return read_settings(None, {"train": {"epochs": epochs}, "net": {"pretrained": "off"}})


def compare(result: Path, truth: Path, workspace: Workspace) -> Found:
    """Match the cells of a slide with the true ones, at most half a cell's width apart."""
    told, true = pq.read_table(result / "cells.parquet"), pq.read_table(truth)
    points = [np.column_stack([table.column(axis).to_numpy() for axis in ("x_um", "y_um")]) for table in (told, true)]
    matching = match_cells(points[0], points[1], CELL_UM / 2)
    home = Path(workspace.root) / "prefect"
    variables = {"PREFECT_HOME": str(home)} | database_address(home)
    names = [table.column("label").to_pylist() for table in (told, true)]
    right = sum(names[0][found] == names[1][known] for found, known in matching.pairs)
    return Found(
        matching,
        right,
        read_differential(result / "differential.json"),
        differential(names[1], FIVE_TYPES),
        str(result / "report.html"),
        f"mlflow ui --backend-store-uri {quote(shown(workspace.tracking_uri))}",
        prefect=f"{' '.join(f'{name}={quote(value)}' for name, value in variables.items())} prefect server start",
    )


def summary(found: Found) -> Table:
    """Set the differential beside the truth."""
    matching = found.matching
    shares = f"{matching.recall:.1%} of {matching.true} cells found, {matching.invented} invented"
    table = Table("type", "told", "95 % interval", "truth", title=f"{shares}, {found.right} of them typed right")
    for share in found.truth.shares:
        told = found.told[share.label]
        table.add_row(
            share.label, f"{told.share:.1%} ({told.count})", f"{told.low:.1%} - {told.high:.1%}", f"{share.share:.1%}"
        )
    return table
