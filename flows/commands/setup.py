"""`sgcldff doctor`, `settings` and `demo`: checks of the machine, all settings, the pipeline on synthetic smears."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.options import Panel, SettingsOption, WorkspaceOption, examples, out, output, print_outcome, settings_from
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
    from sgcldff.doctor import examine

    checks = list(examine(workspace, cluster))
    console = Console(soft_wrap=as_json)
    if as_json:
        console.print_json(json.dumps([asdict(check) | {"server": check.server} for check in checks]))
    else:
        table = Table("check", "state", "found", "what to do", show_lines=True)
        for check in checks:
            texts = (Text(text, overflow="fold") for text in (check.found, check.remedy))
            table.add_row(check.name, Text(check.state, style=STATE_STYLES[check.state]), *texts)
        console.print(table)
    failed = [check for check in checks if check.state == "failed"]
    if failed:
        kind = ServiceError if all(check.server for check in failed) else SgcldffError
        raise kind(f"{len(failed)} of {len(checks)} checks failed: {', '.join(check.name for check in failed)}")


@app.command(
    rich_help_panel=Panel.CHECKS,
    epilog=examples("sgcldff settings > lab.toml", "sgcldff settings --settings lab.toml --json"),
)
def settings(
    settings: SettingsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with versions and without comments.")] = False,
) -> None:
    """Print all settings as TOML for `--settings`, with their meaning."""
    values = settings_from(settings)
    if as_json:
        out.print_json(json.dumps(asdict(values)))
        return
    from flows.settings_file import to_toml

    typer.echo(to_toml(values), nl=False)


@app.command(rich_help_panel=Panel.CHECKS, epilog=examples("sgcldff demo --out demo"))
def demo(
    to: Annotated[Path, output("Folder for all files of the demo.")] = Path("demo"),
    side: Annotated[int, typer.Option(min=2048, help="Side of the slide, px.")] = 8192,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 3,
) -> None:
    """Draw synthetic smears and a slide with known cells, run the whole pipeline on them and compare."""
    from flows.environment import start_run

    start_run(to / "workspace")
    from flows.demo import demo as flow
    from flows.demo import summary

    result = flow(str(to), side, epochs)
    out.print(summary(result))
    print_outcome("Demo done.", report=result.report, mlflow=result.mlflow, prefect=result.prefect)
