"""`sgcldff benchmark`: networks compared under the same protocols."""

from pathlib import Path
from typing import Annotated

import typer

from flows.environment import configure, serve_metrics
from flows.options import (
    AdapterOption,
    DataOption,
    DeviceOption,
    MetricsOption,
    MppOption,
    SettingsOption,
    output,
    settings_from,
    sources_from,
    where,
)

app = typer.Typer()


@app.command()
def benchmark(
    data: DataOption,
    to: Annotated[Path, output("Folder for table.md, table.json and the runs.")],
    budget: Annotated[
        str, typer.Option(help="Epochs of every training (40), or the time for everything (2h, 90m).")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every contender.")] = 3,
    protocols: Annotated[
        str, typer.Option(help="within, left-out, robustness, by commas; all that the data allow.")
    ] = "",
    networks: Annotated[str, typer.Option(help="Networks and ablations, by commas.")] = "",
    adapter: AdapterOption = "auto",
    mpp: MppOption = None,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    metrics_port: MetricsOption = None,
) -> None:
    """Train SG-CLDFF, baselines and ablations alike on the same splits; write tables and plots that compare them."""
    serve_metrics(metrics_port)
    from sgcldff.benchmark.budget import Budget
    from sgcldff.benchmark.protocols import Plan, read_protocols

    spent = Budget.parse(budget)
    plan = Plan(seeds, read_protocols(protocols), spent.seconds)
    configure(to)
    from flows.benchmark import benchmark as flow
    from flows.benchmark import chosen

    base = settings_from(settings, epochs=spent.epochs)
    names = list(chosen([name.strip() for name in networks.split(",") if name.strip()], base))
    flow(sources_from(data, adapter, mpp), str(to), names, base, device, plan)
    where("Compared.", table=to / "table.md", plots=to / "plots")
