"""Models: trained, and measured."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.commands.registry import chosen_model
from flows.environment import configure, serve_metrics
from flows.options import (
    WORKSPACE,
    AdapterOption,
    DataOption,
    DeviceOption,
    EpochsOption,
    MetricsOption,
    ModelOption,
    MppOption,
    PrecisionOption,
    SeedOption,
    SettingsOption,
    WorkspaceOption,
    out,
    settings_from,
    sources_from,
    where,
)
from sgcldff.errors import IncompleteBatchError

app = typer.Typer()


@app.command()
def train(
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    metrics_port: MetricsOption = None,
) -> None:
    """Train on the catalog, evaluate on its test split and register the model as challenger."""
    serve_metrics(metrics_port)
    configure(workspace)
    from flows.train import train as flow

    chosen = settings_from(settings, epochs=epochs, seed=seed, precision=precision)
    done = flow(str(workspace), chosen, device)
    where(f"Registered {done.model.name} version {done.model.version}.", report=f"{done.evaluation}/report.md")


@app.command()
def retrain(
    data: DataOption,
    adapter: AdapterOption = "auto",
    mpp: MppOption = None,
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    force: Annotated[bool, typer.Option("--force", help="Train whatever the policy says.")] = False,
    warm: Annotated[
        bool | None, typer.Option("--warm/--from-scratch", help="Begin with the champion's weights, or anew.")
    ] = None,
    metrics_port: MetricsOption = None,
) -> None:
    """Run the chain: prepare; if there is a reason, train, evaluate, register, and promote if the model earned it."""
    serve_metrics(metrics_port)
    configure(workspace)
    from flows.retrain import retrain as flow
    from flows.retrain import starting

    chosen = starting(settings_from(settings, epochs=epochs, seed=seed, precision=precision), warm)
    done = flow(sources_from(data, adapter, mpp), str(workspace), chosen, device, force=force)
    out.print(escape("\n".join(f"- {figure}" for figure in done.decision.figures)), highlight=False)
    if done.challenger is None:
        where(done.outcome, drift=f"{workspace}/drift/decision.json")
    else:
        where(f"{done.decision.outcome} {done.outcome}", report=f"{done.challenger.evaluation}/report.md")


@app.command()
def evaluate(
    data: DataOption,
    model: ModelOption = None,
    adapter: AdapterOption = "auto",
    mpp: MppOption = None,
    report: Annotated[Path | None, typer.Option("--json", help="Write the report here as JSON.")] = None,
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
) -> None:
    """Score a model on data that it never saw; images that it was trained on, or cannot be scored, are set aside."""
    configure(workspace)
    chosen, sources = settings_from(settings), sources_from(data, adapter, mpp)
    named = chosen_model(workspace, model)
    from flows.evaluate import evaluate as flow
    from flows.launch import launch

    done = launch(flow, sources, str(workspace), named.reference, chosen)
    folder = Path(done.folder)
    out.print((folder / "report.md").read_text())
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text((folder / "report.json").read_text())
    where("Evaluated.", report=report or folder / "report.json", pictures=folder / "examples.png")
    if done.unusable:
        told = f"first {done.unusable[0]} (all in {folder / 'report.json'})"
        raise IncompleteBatchError(f"{len(done.unusable)} of the images set aside, {told}")
