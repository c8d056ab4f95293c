"""`sgcldff settings`: all settings with their defaults."""

import json

import typer

from flows.options import out

app = typer.Typer()


@app.command()
def settings() -> None:
    """Print all settings with their defaults as JSON, by stage."""
    from dataclasses import asdict

    from flows.settings import Settings

    out.print_json(json.dumps(asdict(Settings())))
