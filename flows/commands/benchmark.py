"""`sgcldff benchmark`: comparison of networks under the same protocols."""

from pathlib import Path
from typing import Annotated

import typer

from flows import completion, options
from flows.checks import require_all, require_sources
from flows.options import Panel, examples, output, print_outcome, settings_from, sources_from

app = typer.Typer()


@app.command(
    rich_help_panel=Panel.TRAINING,
    epilog=examples(
        "sgcldff benchmark --data /data/smears --out compared",
        "sgcldff benchmark --data /data/smears --out compared --networks sgcldff,unet --budget 8h --seeds 1",
    ),
)
def benchmark(
    data: options.DataOption,
    to: Annotated[Path, output("Folder for table.md, table.json, plots and the trainings.")],
    budget: Annotated[
        str,
        typer.Option(
            help="Epochs per training (40), or the total time (2h, 90m).", show_default="the epochs of the settings"
        ),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per network.")] = 3,
    protocols: Annotated[
        str,
        typer.Option(
            help="Protocols, separated by commas: within, left-out, robustness.",
            show_default="all that are possible",
            autocompletion=completion.protocols,
        ),
    ] = "",
    networks: Annotated[
        str,
        typer.Option(
            help="Networks and ablations, separated by commas.", show_default="all", autocompletion=completion.networks
        ),
    ] = "",
    adapter: options.AdapterOption = "auto",
    mpp: options.MppOption = None,
    settings: options.SettingsOption = None,
    device: options.DeviceOption = options.Device.AUTO,
    metrics_port: options.MetricsOption = None,
) -> None:
    """Train SG-CLDFF, baselines and ablations on the same splits, and compare them in tables and plots."""
    from flows.candidates import select_candidates
    from sgcldff.benchmark.protocols import BenchmarkPlan, Budget, read_protocols

    names = [name.strip() for name in networks.split(",") if name.strip()]
    require_all(
        lambda: Budget.parse(budget),
        lambda: read_protocols(protocols),
        lambda: select_candidates(names, settings_from(settings)),
        lambda: require_sources(data, adapter, mpp),
    )
    from flows.environment import start_run

    start_run(to, metrics_port)
    from flows.benchmark import benchmark as flow

    limits = Budget.parse(budget)
    plan = BenchmarkPlan(seeds, read_protocols(protocols), limits.seconds)
    base = settings_from(settings, epochs=limits.epochs)
    networks_used = list(select_candidates(names, base))
    flow(sources_from(data, adapter, mpp), str(to), networks_used, base, device.value, plan)
    print_outcome("Compared.", table=to / "table.md", plots=to / "plots")
