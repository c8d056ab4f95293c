"""Options that several parts of the command line share."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sgcldff.disks import require_writable

WORKSPACE = Path("sgcldff-workspace")
WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", envvar="SGCLDFF_WORKSPACE", help="Folder of catalog, models and runs.")
]
out = Console(soft_wrap=True)


def output(told: str) -> Any:
    """Give the option of the folder for a command's results, which ends the command where nothing can be written."""
    return typer.Option("--out", "-o", callback=_writable, help=told)


def _writable(folder: Path) -> Path:
    require_writable(folder)
    return folder
