"""Options that several parts of the command line share."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

WORKSPACE = Path("sgcldff-workspace")
WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", envvar="SGCLDFF_WORKSPACE", help="Folder of catalog, models and runs.")
]
out = Console(soft_wrap=True)
