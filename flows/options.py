"""Options shared by several commands."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from flows import completion
from sgcldff.core.disks import require_writable
from sgcldff.core.errors import readable
from sgcldff.core.settings import AUTO_MPP, MAX_MPP, MIN_MPP
from sgcldff.core.tables import number


class Panel(StrEnum):
    """Groups of commands in the help, in this order."""

    SLIDES = "Reading slides"
    DATA = "Labelled images"
    TRAINING = "Training"
    REGISTRY = "Choosing the model in service"
    CHECKS = "Setup and checks"


class Device(StrEnum):
    """Where a training runs."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


FROM_SETTINGS = "as the settings say"
"""Default shown for options that are also settings."""
SEE_SETTINGS = "TOML file of settings; `sgcldff settings` prints one with every key, its default and its meaning."

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", envvar="SGCLDFF_WORKSPACE", help="Folder of the catalog, models and runs.")
]
DataOption = Annotated[
    list[str],
    typer.Option(
        "--data", "-d", help="Folder or table (CSV, Parquet) of images, or s3://bucket/prefix; may be repeated."
    ),
]
AdapterOption = Annotated[
    str,
    typer.Option(
        help="How to read the data: a name from `sgcldff data list`, or `auto`, which recognises known data sets.",
        autocompletion=completion.adapters,
    ),
]
MPP = typer.Option(
    min=MIN_MPP,
    max=MAX_MPP,
    help="Scale in um per pixel (0.25 at 40x, 0.1 at 100x), for files that do not state it.",
    show_default="as the files say",
)
MppOption = Annotated[float | None, MPP]


def _stated_mpp(text: str) -> float | str:
    return AUTO_MPP if text == AUTO_MPP else number("--mpp", "the scale", text, (MIN_MPP, MAX_MPP))


SlideMppOption = Annotated[
    Any,
    typer.Option(
        parser=_stated_mpp,
        metavar="NUMBER|auto",
        help="Scale in um per pixel (0.25 at 40x, 0.1 at 100x), for files that do not state it; `auto` measures it by"
        " the width of red cells.",
        show_default="as the files say",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="models:/NAME@ALIAS, models:/NAME/VERSION, a folder, or `released`, the model that ships with sgcldff.",
        show_default="the champion; the released model if there is none",
        autocompletion=completion.models,
    ),
]
SettingsOption = Annotated[Path | None, typer.Option("--settings", help=SEE_SETTINGS, show_default="built-in defaults")]
EpochsOption = Annotated[
    int | None, typer.Option(min=1, help="Passes over the training images.", show_default=FROM_SETTINGS)
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the training.", show_default=FROM_SETTINGS)]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="Floating-point precision: auto (the fastest), 32-true, bf16-mixed, 16-mixed.",
        show_default=FROM_SETTINGS,
        autocompletion=completion.precisions,
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="Where to train; `auto` uses a GPU if there is one.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=0, help="Worker processes; 0 uses only this process.", show_default="as the work requires"),
]
ReportOption = Annotated[
    Path | None, typer.Option("--json", help="Also write the report to this file.", show_default="not written")
]
MetricsOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=1,
        max=65535,
        envvar="SGCLDFF_METRICS_PORT",
        help="Port of 127.0.0.1 at which metrics are served for Prometheus while the command runs.",
        show_default="not served",
    ),
]
out = Console(soft_wrap=True)


def output(what: str) -> Any:
    """Return the option for a command's output folder; a folder that is not writable ends the command."""

    def writable(folder: Path) -> Path:
        require_writable(folder)
        return folder

    return typer.Option("--out", "-o", callback=writable, help=what)


def examples(*commands: str) -> str:
    """Return the examples at the end of a command's help."""
    return "\n".join(["**Examples**", "", *(f"- `{command}`" for command in commands)])


def settings_from(path: Path | None, infer: dict[str, Any] | None = None, **train: Any) -> Any:
    """Read settings; options of the command line take precedence."""
    from flows.settings import read_settings

    return read_settings(path, {"train": train, "infer": infer or {}})


def sources_from(folders: list[str], adapter: str, mpp: float | None) -> list[Any]:
    """Return the data sets of a command's `--data` options."""
    from sgcldff.data.adapters import Source

    return [Source(adapter, folder, mpp) for folder in folders]


def print_outcome(title: str, **paths: object) -> None:
    """Print the last line of a command: its outcome, and where the results are."""
    named = "  ".join(f"{name}: {path}" for name, path in paths.items())
    out.print(f"[bold]{escape(title)}[/bold] {escape(readable(named))}", highlight=False)
