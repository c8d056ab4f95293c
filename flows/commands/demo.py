"""`sgcldff demo`: the whole job on made-up smears."""

from pathlib import Path
from typing import Annotated

import typer

from flows.options import Panel, examples, out, output, where

app = typer.Typer()


@app.command(rich_help_panel=Panel.CHECKS, epilog=examples("sgcldff demo --out demo"))
def demo(
    to: Annotated[Path, output("Folder for everything that the demo writes.")] = Path("demo"),
    side: Annotated[int, typer.Option(min=2048, help="Side of the slide, px.")] = 8192,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 4,
) -> None:
    """Draw smears and a slide whose cells are known, run the whole chain on them and compare."""
    from flows.environment import configure
    from flows.server import start_temporary_server

    configure(to / "workspace")
    start_temporary_server()
    from flows.demo import demo as flow
    from flows.demo import summary

    found = flow(str(to), side, epochs)
    out.print(summary(found))
    where("Demo done.", report=found.report, mlflow=found.mlflow, prefect=found.prefect)
