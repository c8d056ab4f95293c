"""`sgcldff settings`: all settings and their meaning."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from flows.options import Panel, SettingsOption, examples, out, settings_from

app = typer.Typer()


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
