"""`sgcldff demo`: the whole pipeline on synthetic smears."""

from pathlib import Path
from typing import Annotated

import typer

from flows.options import Panel, examples, out, output, print_outcome

app = typer.Typer()


@app.command(rich_help_panel=Panel.CHECKS, epilog=examples("sgcldff demo --out demo"))
def demo(
    to: Annotated[Path, output("Folder for all files of the demo.")] = Path("demo"),
    side: Annotated[int, typer.Option(min=2048, help="Side of the slide, px.")] = 8192,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 4,
) -> None:
    """Draw synthetic smears and a slide with known cells, run the whole pipeline on them and compare."""
    from flows.environment import configure
    from flows.server import start_temporary_server

    configure(to / "workspace")
    start_temporary_server()
    from flows.demo import demo as flow
    from flows.demo import summary

    result = flow(str(to), side, epochs)
    out.print(summary(result))
    print_outcome("Demo done.", report=result.report, mlflow=result.mlflow, prefect=result.prefect)
