"""`sgcldff benchmark`: networks compared under the same protocols."""

from pathlib import Path
from typing import Annotated

import typer

from flows import completion
from flows.checks import require_all, require_sources
from flows.options import (
    AdapterOption,
    DataOption,
    Device,
    DeviceOption,
    MetricsOption,
    MppOption,
    Panel,
    SettingsOption,
    examples,
    output,
    settings_from,
    sources_from,
    where,
)

app = typer.Typer()


@app.command(
    rich_help_panel=Panel.TRAINING,
    epilog=examples(
        "sgcldff benchmark --data /data/smears --out compared",
        "sgcldff benchmark --data /data/smears --out compared --networks sgcldff,unet --budget 8h --seeds 1",
    ),
)
def benchmark(
    data: DataOption,
    to: Annotated[Path, output("Folder for table.md, table.json, plots and the trainings.")],
    budget: Annotated[
        str,
        typer.Option(
            help="Epochs of every training (40), or the time for everything (2h, 90m).",
            show_default="the epochs of the settings",
        ),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every contender.")] = 3,
    protocols: Annotated[
        str,
        typer.Option(
            help="Protocols, separated by commas: within, left-out, robustness.",
            show_default="all that the data allow",
            autocompletion=completion.protocols,
        ),
    ] = "",
    networks: Annotated[
        str,
        typer.Option(
            help="Networks and ablations, separated by commas.",
            show_default="all",
            autocompletion=completion.networks,
        ),
    ] = "",
    adapter: AdapterOption = "auto",
    mpp: MppOption = None,
    settings: SettingsOption = None,
    device: DeviceOption = Device.AUTO,
    metrics_port: MetricsOption = None,
) -> None:
    """Train SG-CLDFF, baselines and ablations alike on the same splits, and compare them in tables and plots."""
    from flows.contenders import chosen
    from sgcldff.benchmark.budget import Budget
    from sgcldff.benchmark.protocols import Plan, read_protocols

    wanted = [name.strip() for name in networks.split(",") if name.strip()]
    require_all(
        lambda: Budget.parse(budget),
        lambda: read_protocols(protocols),
        lambda: chosen(wanted, settings_from(settings)),
        lambda: require_sources(data, adapter, mpp),
    )
    from flows.environment import configure, serve_metrics

    serve_metrics(metrics_port)
    configure(to)
    from flows.benchmark import benchmark as flow

    spent = Budget.parse(budget)
    plan = Plan(seeds, read_protocols(protocols), spent.seconds)
    base = settings_from(settings, epochs=spent.epochs)
    flow(sources_from(data, adapter, mpp), str(to), list(chosen(wanted, base)), base, device.value, plan)
    where("Compared.", table=to / "table.md", plots=to / "plots")
