"""Labelled images: where to get them, and into the catalog."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows.environment import configure
from flows.options import (
    WORKSPACE,
    AdapterOption,
    DataOption,
    MppOption,
    SettingsOption,
    WorkspaceOption,
    out,
    output,
    settings_from,
    sources_from,
    where,
)
from sgcldff.errors import IncompleteBatchError

app = typer.Typer()
data_app = typer.Typer(help="Public data sets: which there are and how to get them.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command("list")
def data_list() -> None:
    """List the data sets that can be read, with licence and where to get them."""
    from sgcldff.datasets import ADAPTERS

    table = Table("name", "what it is, and how to get it", "um/px", show_lines=True)
    for item in ADAPTERS.values():
        known = (f"[bold]{item.title}[/bold]", f"licence: {item.licence}", item.instructions, item.url)
        scale = "in the store" if item.own_scale else str(item.mpp or "give --mpp")
        table.add_row(item.name, Text.from_markup("\n".join(filter(None, known)), overflow="fold"), scale)
    out.print(table)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name from `sgcldff data list`.")],
    to: Annotated[Path, output("Folder to unpack into.")] = Path("datasets"),
    sha256: Annotated[str | None, typer.Option(help="Checksum that you trust, where none is known here.")] = None,
) -> None:
    """Download a data set whose licence allows it, check it and unpack it."""
    from sgcldff.datasets.fetch import fetch

    where("Fetched.", data=fetch(name, to, sha256=sha256))


@data_app.command("synthesize")
def data_synthesize(
    to: Annotated[Path, output("Folder for images, masks and manifest.csv.")],
    crops: Annotated[int, typer.Option(min=0, help="Crops around one labelled cell.")] = 800,
    fields: Annotated[int, typer.Option(min=0, help="Fields with several cells, without a label.")] = 80,
    seed: Annotated[int, typer.Option(help="The same arguments write the same pixels.")] = 0,
) -> None:
    """Draw smears with known outlines and types, as further data for a training that has few."""
    from sgcldff.synthetic import write_dataset

    where(f"{crops} crops and {fields} fields.", data=write_dataset(to, crops, fields, seed))


@app.command()
def prepare(
    data: DataOption,
    adapter: AdapterOption = "auto",
    mpp: MppOption = None,
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
) -> None:
    """Bring images into the catalog and compute their saliency priors; only what is new is touched."""
    configure(workspace)
    from flows.launch import launch
    from flows.prepare import prepare as flow
    from sgcldff.catalog import Catalog
    from tasks.preparing import reasons

    done = launch(flow, sources_from(data, adapter, mpp), str(workspace), settings_from(settings))
    where(f"{done.images} images.", catalog=done.catalog, priors=done.priors.uri)
    if done.set_aside:
        raise IncompleteBatchError(f"{done.set_aside} of the inputs set aside: {reasons(Catalog.open(done.catalog))}")
