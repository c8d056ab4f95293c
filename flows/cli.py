"""The command line: the commands of all groups, and how each of them ends."""

import copy
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

import sgcldff
from flows.commands import benchmark, calibration, data, registry, review, setup, slides, training, validation
from flows.interruption import Interruption, exit_within_seconds
from sgcldff.core.disks import full_disk_reported
from sgcldff.core.errors import InputError, ServiceError, SgcldffError
from sgcldff.core.redaction import redacted

LOGGING = "Logging"
"""Help panel of the options that every command accepts, before or after its name."""
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Modules that are not named as the package that provides them."""


class CommandLine(TyperGroup):
    """The root command, which passes its logging options on to all subcommands."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        shared = [option for option in self.params if getattr(option, "rich_help_panel", None) == LOGGING]
        for command in commands_below(self):
            command.params += [inherited(option) for option in shared]


def commands_below(group: TyperGroup) -> Iterator[Any]:
    """Yield the commands of a group and of its subgroups."""
    for command in group.commands.values():
        yield from commands_below(command) if isinstance(command, TyperGroup) else (command,)


def inherited(option: Any) -> Any:
    """Copy an option of the root for a subcommand, whose value takes precedence over the root's."""

    def apply(ctx: typer.Context, parameter: Any, value: Any) -> None:
        LOGGING_SETUP[option.name](value or ctx.find_root().params[option.name])

    own = copy.copy(option)
    own.callback, own.expose_value, own.envvar = apply, False, None
    return own


def set_up_terminal(verbose: bool) -> None:
    """Keep the libraries' logs off the terminal, unless `--verbose` is given."""
    from flows.environment import quieten

    if not verbose:
        quieten()


def set_up_log_file(file: Path | None) -> None:
    """Write events to a file if one is named."""
    from flows.environment import log_to

    log_to(file)


LOGGING_SETUP: dict[str, Callable[[Any], None]] = {"verbose": set_up_terminal, "log_json": set_up_log_file}
"""Function that applies each logging option; called once it is known which command runs."""

app = typer.Typer(cls=CommandLine, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")
for group in (slides, review, validation, data, training, benchmark, calibration, registry, setup):
    app.add_typer(group.app)
err = Console(stderr=True, soft_wrap=True)


def print_version(value: bool) -> None:
    """Print the version and exit if `--version` is given."""
    if value:
        typer.echo(f"sgcldff {sgcldff.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", rich_help_panel=LOGGING, help="Show the libraries' logs, and tracebacks.")
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


def print_and_exit(error: SgcldffError) -> NoReturn:
    """Print an error in one line and exit with its code."""
    err.print(f"[bold red]sgcldff:[/bold red] {escape(redacted(str(error)))}", highlight=False)
    if isinstance(error, ServiceError):
        exit_within_seconds(error.exit_code)
    sys.exit(error.exit_code)


def main() -> None:
    """Run the command line; known errors, full disks and signals end it with one line and an exit code of their own."""
    interruption = Interruption(err)
    interruption.watch()
    try:
        with full_disk_reported():
            app()
    except SgcldffError as error:
        print_and_exit(error)
    except ModuleNotFoundError as error:
        if (extra := extra_with(error.name)) is None:
            raise
        err.print(
            f"[bold red]sgcldff:[/bold red] this command needs {error.name}: pip install 'sgcldff\\[{extra}]'",
            highlight=False,
        )
        sys.exit(InputError.exit_code)
    except Exception as error:
        from tasks.stages import prefect_failure

        if (failure := prefect_failure(error)) is None:
            raise
        print_and_exit(failure)
    finally:
        interruption.end()


def extra_with(module: str | None) -> str | None:
    """Return the extra of sgcldff that provides a module; None if none does."""
    top = (module or "").partition(".")[0]
    package = DISTRIBUTIONS.get(top, top.replace("_", "-"))
    for requirement in map(Requirement, requires("sgcldff") or ()):
        if requirement.name.lower() == package and requirement.marker is not None:
            for extra in ("training", "tracking", "openvino", "s3", "geo"):
                if requirement.marker.evaluate({"extra": extra}):
                    return extra
    return None
