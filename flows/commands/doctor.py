"""`sgcldff doctor`: checks of the installation, the machine and the servers, with remedies."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.options import Panel, WorkspaceOption, examples
from sgcldff.core.errors import ServiceError, SgcldffError
from tasks.workspace import WORKSPACE

app = typer.Typer()

STATE_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@app.command(
    rich_help_panel=Panel.CHECKS, epilog=examples("sgcldff doctor", "sgcldff doctor --cluster tcp://host:8786")
)
def doctor(
    workspace: WorkspaceOption = WORKSPACE,
    cluster: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler to check as well.", show_default="none")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check GPU, slide library, packages, folders, servers and settings, and suggest remedies; changes nothing."""
    from sgcldff.doctor import Setup, examine

    checks = list(examine(Setup(workspace, cluster)))
    out = Console(soft_wrap=as_json)
    if as_json:
        out.print_json(json.dumps([asdict(check) | {"server": check.server} for check in checks]))
    else:
        table = Table("check", "state", "found", "what to do", show_lines=True)
        for check in checks:
            texts = (Text(text, overflow="fold") for text in (check.found, check.remedy))
            table.add_row(check.name, Text(check.state, style=STATE_STYLES[check.state]), *texts)
        out.print(table)
    failed = [check for check in checks if check.state == "failed"]
    if failed:
        kind = ServiceError if all(check.server for check in failed) else SgcldffError
        raise kind(f"{len(failed)} of {len(checks)} checks failed: {', '.join(check.name for check in failed)}")
