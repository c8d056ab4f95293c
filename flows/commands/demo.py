"""`sgcldff demo`: the whole job on made-up smears."""

from pathlib import Path
from typing import Annotated

import typer

from flows.environment import configure
from flows.options import out, output, where

app = typer.Typer()


@app.command()
def demo(
    to: Annotated[Path, output("Folder for everything that the demo makes.")] = Path("demo"),
    side: Annotated[int, typer.Option(min=2048, help="Side of the synthetic slide, px.")] = 8192,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 5,
) -> None:
    """Make smears and a slide with known truth, run the whole chain on them and compare."""
    configure(to / "workspace")
    from flows.demo import demo as flow
    from flows.demo import summary

    found = flow(str(to), side, epochs)
    out.print(summary(found))
    where("Demo done.", report=found.report, mlflow=found.mlflow, prefect=found.prefect)
