"""`sgcldff data` and `sgcldff prepare`: labelled images, where to get them, and the catalog."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows import completion, options
from flows.checks import require_all, require_parts, require_sources
from flows.options import Panel, examples, out, output, print_outcome, settings_from, sources_from
from sgcldff.core.disks import require_writable
from sgcldff.core.errors import IncompleteBatchError
from sgcldff.core.wording import counted
from tasks.workspace import WORKSPACE

app = typer.Typer()
data_app = typer.Typer(help="List, download or draw labelled images.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=Panel.DATA)


@data_app.command("list", epilog=examples("sgcldff data list", "sgcldff data list --json"))
def data_list(as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False) -> None:
    """List the data sets that can be read, with their licences and where to get them."""
    from sgcldff.data.adapters import ADAPTERS

    if as_json:
        kept = ("name", "title", "licence", "url", "instructions", "mpp", "own_scale")
        rows = [
            {key: getattr(item, key) for key in kept} | {"can_be_fetched": item.download is not None}
            for item in ADAPTERS.values()
        ]
        out.print_json(json.dumps(rows))
        return
    table = Table("name", "description, and how to get it", "um/px", show_lines=True)
    for item in ADAPTERS.values():
        lines = (f"[bold]{item.title}[/bold]", f"licence: {item.licence}", item.instructions, item.url)
        scale = "in the store" if item.own_scale else str(item.mpp or "give --mpp")
        table.add_row(item.name, Text.from_markup("\n".join(filter(None, lines)), overflow="fold"), scale)
    out.print(table)


@data_app.command("fetch", epilog=examples("sgcldff data fetch bccd --out datasets"))
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name from `sgcldff data list`.", autocompletion=completion.data_sets)],
    to: Annotated[Path, output("Folder to unpack into.")] = Path("datasets"),
    sha256: Annotated[
        str | None,
        typer.Option(help="Trusted checksum of the archive, if none is built in.", show_default="the built-in one"),
    ] = None,
) -> None:
    """Download a data set whose licence allows it, verify it and unpack it."""
    from sgcldff.data.adapters.download import fetch

    print_outcome("Fetched.", data=fetch(name, to, sha256=sha256))


@data_app.command("synthesize", epilog=examples("sgcldff data synthesize --out drawn --crops 400 --fields 40"))
def data_synthesize(
    to: Annotated[Path, output("Folder for images, masks and manifest.csv.")],
    crops: Annotated[int, typer.Option(min=0, help="Crops around one labelled cell.")] = 800,
    fields: Annotated[int, typer.Option(min=0, help="Fields with several cells, without labels.")] = 80,
    seed: Annotated[int, typer.Option(help="Seed; the same arguments write the same pixels.")] = 0,
) -> None:
    """Draw synthetic smears with known outlines and types, as extra training data when images are few."""
    from sgcldff.data.synthetic import write_dataset

    written = write_dataset(to, crops, fields, seed)
    print_outcome(f"{counted(crops, 'crop')} and {counted(fields, 'field')}.", data=written)


@app.command(
    rich_help_panel=Panel.DATA,
    epilog=examples(
        "sgcldff prepare --data /data/smears", "sgcldff prepare --data /data/cells --adapter folder --mpp 0.1"
    ),
)
def prepare(
    data: options.DataOption,
    adapter: options.AdapterOption = "auto",
    mpp: options.MppOption = None,
    workspace: options.WorkspaceOption = WORKSPACE,
    settings: options.SettingsOption = None,
) -> None:
    """Add images to the catalog and compute their saliency priors; finished work is not repeated."""
    require_all(
        lambda: require_writable(workspace),
        lambda: require_parts(settings_from(settings)),
        lambda: require_sources(data, adapter, mpp),
    )
    from flows.environment import configure, launch

    configure(workspace)
    from flows.prepare import prepare as flow
    from sgcldff.data.catalog import Catalog
    from tasks.data import reasons

    done = launch(flow, sources_from(data, adapter, mpp), str(workspace), settings_from(settings))
    print_outcome(f"{counted(done.images, 'image')}.", catalog=done.catalog, priors=done.priors.uri)
    if done.skipped:
        skipped = counted(done.skipped, "input was skipped", "inputs were skipped")
        raise IncompleteBatchError(f"{skipped}, the rest is done: {reasons(Catalog.open(done.catalog))}")
