"""The command line: the commands of all groups, and how each of them ends."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.commands import benchmark, data, demo, doctor, registry, review, settings, slides, training
from flows.environment import log_to, quieten
from flows.interruption import Interruption
from sgcldff.disks import FullDiskWatch
from sgcldff.errors import SgcldffError
from sgcldff.redaction import redacted

app = typer.Typer(
    help="Find, outline and type white blood cells in stained smears, and keep the model current.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for group in (slides, review, data, training, registry, benchmark, demo, doctor, settings):
    app.add_typer(group.app)
err = Console(stderr=True, soft_wrap=True)


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what the libraries log, and tracebacks.")
    ] = False,
    log_json: Annotated[
        Path | None,
        typer.Option(envvar="SGCLDFF_LOG", help="Append events to this file, a line of JSON each; secrets left out."),
    ] = None,
) -> None:
    """Find, outline and type white blood cells in stained smears, and keep the model current."""
    if not verbose:
        quieten()
    log_to(log_json)


def main() -> None:
    """Run the command line; known errors, full disks and Ctrl-C end in one line and their exit code."""
    interruption = Interruption(err)
    interruption.watch()
    try:
        with FullDiskWatch():
            app()
    except SgcldffError as error:
        err.print(f"[bold red]sgcldff:[/bold red] {escape(redacted(str(error)))}", highlight=False)
        sys.exit(error.exit_code)
    finally:
        if interruption.came:
            interruption.end()
