"""Models: trained, and measured."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.checks import (
    require_all,
    require_known_model,
    require_parts,
    require_prepared,
    require_report,
    require_sources,
)
from flows.commands.registry import chosen_model
from flows.options import (
    FROM_SETTINGS,
    WORKSPACE,
    AdapterOption,
    DataOption,
    Device,
    DeviceOption,
    EpochsOption,
    MetricsOption,
    ModelOption,
    MppOption,
    Panel,
    PrecisionOption,
    ReportOption,
    SeedOption,
    SettingsOption,
    WorkspaceOption,
    examples,
    out,
    settings_from,
    sources_from,
    where,
)
from sgcldff.core.disks import require_writable
from sgcldff.core.errors import IncompleteBatchError
from sgcldff.core.wording import counted

app = typer.Typer()


@app.command(
    rich_help_panel=Panel.TRAINING,
    epilog=examples("sgcldff train", "sgcldff train --settings lab.toml --device gpu --seed 1"),
)
def train(
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = Device.AUTO,
    metrics_port: MetricsOption = None,
) -> None:
    """Train on the catalog, evaluate on its test split and register the model as challenger."""
    require_all(
        lambda: require_prepared(workspace),
        lambda: require_parts(settings_from(settings, epochs=epochs, seed=seed, precision=precision)),
    )
    from flows.environment import configure, serve_metrics
    from flows.server import start_temporary_server

    serve_metrics(metrics_port)
    configure(workspace)
    start_temporary_server()
    from flows.train import train as flow

    chosen = settings_from(settings, epochs=epochs, seed=seed, precision=precision)
    done = flow(str(workspace), chosen, device.value)
    where(f"Registered {done.model.name} version {done.model.version}.", report=f"{done.evaluation}/report.md")


@app.command(
    rich_help_panel=Panel.TRAINING,
    epilog=examples("sgcldff retrain --data /data/smears", "sgcldff retrain --data s3://lab/smears --force --warm"),
)
def retrain(
    data: DataOption,
    adapter: AdapterOption = "auto",
    mpp: MppOption = None,
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = Device.AUTO,
    force: Annotated[bool, typer.Option("--force", help="Train without a reason.")] = False,
    warm: Annotated[
        bool | None,
        typer.Option(
            "--warm/--from-scratch", help="Start from the champion's weights, or anew.", show_default=FROM_SETTINGS
        ),
    ] = None,
    metrics_port: MetricsOption = None,
) -> None:
    """Run the whole chain: prepare and, if there is a reason, train, evaluate, register and promote."""
    require_all(
        lambda: require_writable(workspace),
        lambda: require_parts(settings_from(settings, epochs=epochs, seed=seed, precision=precision)),
        lambda: require_sources(data, adapter, mpp),
    )
    from flows.environment import configure, serve_metrics
    from flows.server import start_temporary_server

    serve_metrics(metrics_port)
    configure(workspace)
    start_temporary_server()
    from flows.retrain import retrain as flow
    from flows.retrain import starting

    chosen = starting(settings_from(settings, epochs=epochs, seed=seed, precision=precision), warm)
    done = flow(sources_from(data, adapter, mpp), str(workspace), chosen, device.value, force=force)
    out.print(escape("\n".join(f"- {figure}" for figure in done.decision.figures)), highlight=False)
    if done.challenger is None:
        where(done.outcome, drift=f"{workspace}/drift/decision.json")
    else:
        where(f"{done.decision.outcome} {done.outcome}", report=f"{done.challenger.evaluation}/report.md")


@app.command(
    rich_help_panel=Panel.TRAINING,
    epilog=examples(
        "sgcldff evaluate --data /data/smears",
        "sgcldff evaluate --data /data/smears --model models:/sgcldff@challenger --json report.json",
    ),
)
def evaluate(
    data: DataOption,
    model: ModelOption = None,
    adapter: AdapterOption = "auto",
    mpp: MppOption = None,
    report: ReportOption = None,
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
) -> None:
    """Score a model on labelled images; images that it learned from, or that cannot be scored, are left out."""
    require_all(
        lambda: require_writable(workspace),
        lambda: settings_from(settings),
        lambda: require_sources(data, adapter, mpp),
        lambda: require_known_model(model, workspace),
        lambda: require_report(report),
    )
    from flows.environment import configure

    configure(workspace)
    chosen, sources = settings_from(settings), sources_from(data, adapter, mpp)
    named = chosen_model(workspace, model)
    from flows.evaluate import evaluate as flow
    from flows.launch import launch
    from sgcldff.evaluation.report import listed

    done = launch(flow, sources, str(workspace), named.reference, chosen)
    folder = Path(done.folder)
    out.print((folder / "report.md").read_text())
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text((folder / "report.json").read_text())
    where("Evaluated.", report=report or folder / "report.json", pictures=folder / "examples.png")
    missing = []
    if done.unusable:
        told = counted(len(done.unusable), "image was skipped", "images were skipped")
        missing.append(f"{told}, first {done.unusable[0]}")
    if done.untyped:
        missing.append(f"{listed(done.untyped)}: the model does not know the label, only their outlines are scored")
    if missing:
        raise IncompleteBatchError(f"{'; '.join(missing)} (all in {folder / 'report.json'})")
