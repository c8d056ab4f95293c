"""The command line: the commands of all groups, and how each of them ends."""

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

import sgcldff
from flows.commands import benchmark, data, demo, doctor, registry, review, settings, slides, training
from flows.interruption import Interruption
from sgcldff.core.disks import full_disk_reported
from sgcldff.core.errors import SgcldffError
from sgcldff.core.redaction import redacted

LOGGING = "Logging"
"""Panel of the options that every command takes, before its name or after it."""


class CommandLine(TyperGroup):
    """The root of all commands, which hands its own logging options down to them."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        shared = [option for option in self.params if getattr(option, "rich_help_panel", None) == LOGGING]
        for command in commands_below(self):
            command.params += [handed_down(option) for option in shared]


def commands_below(group: TyperGroup) -> Iterator[Any]:
    """Yield the commands of a group and of the groups in it."""
    for command in group.commands.values():
        yield from commands_below(command) if isinstance(command, TyperGroup) else (command,)


def handed_down(option: Any) -> Any:
    """Copy an option of the root: what is given to a command goes before what is given to the root."""

    def start(ctx: typer.Context, parameter: Any, value: Any) -> None:
        STARTS[option.name](value or ctx.find_root().params[option.name])

    own = copy.copy(option)
    own.callback, own.expose_value, own.envvar = start, False, None
    return own


def start_quiet(verbose: bool) -> None:
    """Keep what libraries log off the terminal, unless it is wanted."""
    from flows.environment import quieten

    if not verbose:
        quieten()


def start_log(file: Path | None) -> None:
    """Write events to a file if one is named."""
    from flows.environment import log_to

    log_to(file)


STARTS: dict[str, Callable[[Any], None]] = {"verbose": start_quiet, "log_json": start_log}
"""What each of the options sets off, once it is known which command runs."""

app = typer.Typer(cls=CommandLine, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")
for group in (slides, review, data, training, benchmark, registry, doctor, settings, demo):
    app.add_typer(group.app)
err = Console(stderr=True, soft_wrap=True)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        typer.echo(f"sgcldff {sgcldff.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", rich_help_panel=LOGGING, help="Show what the libraries log, and tracebacks."),
    ] = False,
    log_json: Annotated[
        Path | None,
        typer.Option(
            envvar="SGCLDFF_LOG",
            rich_help_panel=LOGGING,
            help="Append events to this file, one JSON object per line, without secrets.",
            show_default="no file",
        ),
    ] = None,
) -> None:
    """Find, outline and classify white blood cells in stained smears, and keep the model current."""


def main() -> None:
    """Run the command line; known errors, full disks and Ctrl-C end in one line and their exit code."""
    interruption = Interruption(err)
    interruption.watch()
    try:
        with full_disk_reported():
            app()
    except SgcldffError as error:
        err.print(f"[bold red]sgcldff:[/bold red] {escape(redacted(str(error)))}", highlight=False)
        sys.exit(error.exit_code)
    finally:
        if interruption.came:
            interruption.end()
