"""`sgcldff calibrate`: a model fitted to a laboratory by a few reviewed cells."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.checks import require_all, require_known_model, require_there
from flows.commands.registry import choose_and_print
from flows.options import ModelOption, Panel, WorkspaceOption, examples, out, print_outcome
from sgcldff.core.disks import require_writable
from tasks.workspace import WORKSPACE

app = typer.Typer()


@app.command(
    rich_help_panel=Panel.REGISTRY,
    epilog=examples("sgcldff calibrate --store reviews", "sgcldff calibrate --store reviews --model released"),
)
def calibrate(
    store: Annotated[Path, typer.Option("--store", "-s", help="Folder of all reviews, from `sgcldff review read`.")],
    model: ModelOption = None,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Fit a model's types to your stain with some 20 reviewed cells, in seconds, if cross-validation shows a gain."""
    require_all(
        lambda: require_writable(workspace),
        lambda: require_there(store / "reviews", "store of reviews"),
        lambda: require_known_model(model, workspace),
    )
    from flows.environment import configure, launch

    configure(workspace)
    chosen = choose_and_print(workspace, model)
    from flows.calibrate import calibrate as flow

    done = launch(flow, str(store), str(workspace), chosen.reference)
    table = Table(f"{done.calibration.cells.total()} cells", "as it was", "calibrated, held out")
    for row in done.calibration.rows:
        table.add_row(*row)
    out.print(table)
    for note in (*done.calibration.notes, *done.left_out):
        out.print(f"- {escape(note)}", highlight=False)
    if done.model is None:
        print_outcome("Not calibrated.")
        return
    name = f"models:/{done.model.name}/{done.model.version}"
    print_outcome(f"Registered {name}: {done.calibration.summary}.")
    out.print(f"`sgcldff infer --model {name}` reads with it; `sgcldff promote --model {name}` judges it.")
