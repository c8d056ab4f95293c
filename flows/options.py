"""Options that several parts of the command line share."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from sgcldff.disks import require_writable

WORKSPACE = Path("sgcldff-workspace")
WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", envvar="SGCLDFF_WORKSPACE", help="Folder of catalog, models and runs.")
]
DataOption = Annotated[
    list[str],
    typer.Option(
        "--data",
        "-d",
        help="Folder (or CSV/Parquet table) of images, or s3://bucket/prefix; may be given several times.",
    ),
]
AdapterOption = Annotated[
    str, typer.Option(help="How to read the data; `auto` finds known data sets. See `sgcldff data list`.")
]
MppOption = Annotated[float | None, typer.Option(min=0.02, max=8, help="um/px, where the files do not say.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="models:/NAME@ALIAS, models:/NAME/VERSION, a folder, or `released`: the model that ships with sgcldff. "
        "Where left out, the champion, or, where there is none, the released model."
    ),
]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", help="TOML file; `sgcldff settings` prints all keys with defaults.")
]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Epochs of training.")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the training.")]
PrecisionOption = Annotated[str | None, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or gpu.")]
MetricsOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=1,
        max=65535,
        envvar="SGCLDFF_METRICS_PORT",
        help="Port of 127.0.0.1 on which Prometheus finds figures while the command runs.",
    ),
]
out = Console(soft_wrap=True)


def output(told: str) -> Any:
    """Give the option of the folder for a command's results, which ends the command where nothing can be written."""
    return typer.Option("--out", "-o", callback=_writable, help=told)


def _writable(folder: Path) -> Path:
    require_writable(folder)
    return folder


def settings_from(path: Path | None, infer: dict[str, Any] | None = None, **train: Any) -> Any:
    """Read settings, with options of the command line on top."""
    from flows.settings import read_settings

    return read_settings(path, {"train": train, "infer": infer or {}})


def sources_from(folders: list[str], adapter: str, mpp: float | None) -> list[Any]:
    """Name the data sets that a command is about."""
    from sgcldff.datasets import Source

    return [Source(adapter, folder, mpp) for folder in folders]


def where(title: str, **places: object) -> None:
    """End a command with where its results are."""
    named = "  ".join(f"{name}: {place}" for name, place in places.items())
    out.print(f"[bold]{escape(title)}[/bold] {escape(named)}", highlight=False)
