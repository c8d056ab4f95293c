"""`sgcldff train`, `retrain` and `evaluate`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows import checks, options
from flows.commands.registry import choose_and_print
from flows.options import Panel, examples, out, print_outcome, settings_from, sources_from
from sgcldff.core.disks import require_writable
from sgcldff.core.errors import IncompleteBatchError
from sgcldff.core.wording import counted
from tasks.workspace import WORKSPACE

app = typer.Typer()


@app.command(
    rich_help_panel=Panel.TRAINING,
    epilog=examples("sgcldff train --teacher released", "sgcldff train --settings lab.toml --device gpu --seed 1"),
)
def train(
    workspace: options.WorkspaceOption = WORKSPACE,
    settings: options.SettingsOption = None,
    epochs: options.EpochsOption = None,
    seed: options.SeedOption = None,
    precision: options.PrecisionOption = None,
    device: options.DeviceOption = options.Device.AUTO,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Model that outlines cells in images without masks: released, a version, or a folder.",
            show_default="none",
        ),
    ] = None,
    metrics_port: options.MetricsOption = None,
) -> None:
    """Train on the catalog, evaluate on its test split and register the model as challenger."""
    checks.require_all(
        lambda: checks.require_prepared(workspace),
        lambda: checks.require_parts(settings_from(settings, epochs=epochs, seed=seed, precision=precision)),
    )
    from flows.environment import start_run

    start_run(workspace, metrics_port)
    from flows.train import train as flow

    spec = settings_from(settings, epochs=epochs, seed=seed, precision=precision)
    done = flow(str(workspace), spec, device.value, teacher=teacher)
    print_outcome(
        f"Registered {done.model.name} version {done.model.version}.", report=f"{done.evaluation}/report.html"
    )


@app.command(
    rich_help_panel=Panel.TRAINING,
    epilog=examples("sgcldff retrain --data /data/smears", "sgcldff retrain --data s3://lab/smears --force --warm"),
)
def retrain(
    data: options.DataOption,
    adapter: options.AdapterOption = "auto",
    mpp: options.MppOption = None,
    workspace: options.WorkspaceOption = WORKSPACE,
    settings: options.SettingsOption = None,
    epochs: options.EpochsOption = None,
    seed: options.SeedOption = None,
    precision: options.PrecisionOption = None,
    device: options.DeviceOption = options.Device.AUTO,
    force: Annotated[bool, typer.Option("--force", help="Train even without a reason.")] = False,
    warm: Annotated[
        bool | None,
        typer.Option(
            "--warm/--from-scratch",
            help="Start from the champion's weights, or from scratch.",
            show_default=options.FROM_SETTINGS,
        ),
    ] = None,
    metrics_port: options.MetricsOption = None,
) -> None:
    """Run the whole chain: prepare and, if there is a reason, train, evaluate, register and promote."""
    checks.require_all(
        lambda: require_writable(workspace),
        lambda: checks.require_parts(settings_from(settings, epochs=epochs, seed=seed, precision=precision)),
        lambda: checks.require_sources(data, adapter, mpp),
    )
    from flows.environment import start_run

    start_run(workspace, metrics_port)
    from flows.retrain import retrain as flow
    from flows.retrain import with_start

    spec = with_start(settings_from(settings, epochs=epochs, seed=seed, precision=precision), warm)
    done = flow(sources_from(data, adapter, mpp), str(workspace), spec, device.value, force=force)
    out.print(escape("\n".join(f"- {figure}" for figure in done.decision.figures)), highlight=False)
    if done.challenger is None:
        print_outcome(done.outcome, drift=f"{workspace}/drift/decision.json")
    else:
        print_outcome(f"{done.decision.outcome} {done.outcome}", report=f"{done.challenger.evaluation}/report.html")


@app.command(
    rich_help_panel=Panel.TRAINING,
    epilog=examples(
        "sgcldff evaluate --data /data/smears",
        "sgcldff evaluate --data /data/smears --model models:/sgcldff@challenger --json report.json",
    ),
)
def evaluate(
    data: options.DataOption,
    model: options.ModelOption = None,
    adapter: options.AdapterOption = "auto",
    mpp: options.MppOption = None,
    report: options.ReportOption = None,
    workspace: options.WorkspaceOption = WORKSPACE,
    settings: options.SettingsOption = None,
) -> None:
    """Score a model on labelled images; its training images, and images that cannot be scored, are skipped."""
    checks.require_all(
        lambda: require_writable(workspace),
        lambda: settings_from(settings),
        lambda: checks.require_sources(data, adapter, mpp),
        lambda: checks.require_known_model(model, workspace),
        lambda: checks.require_report(report),
    )
    from flows.environment import configure, launch

    configure(workspace)
    spec, sources = settings_from(settings), sources_from(data, adapter, mpp)
    chosen_model = choose_and_print(workspace, model)
    from flows.evaluate import evaluate as flow

    done = launch(flow, sources, str(workspace), chosen_model.reference, spec)
    folder = Path(done.folder)
    out.print((folder / "report.md").read_text())
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text((folder / "report.json").read_text())
    print_outcome(
        "Evaluated.",
        page=folder / "report.html",
        report=report or folder / "report.json",
        pictures=folder / "examples.png",
    )
    missing = []
    if done.skipped:
        count = counted(len(done.skipped), "image was skipped", "images were skipped")
        missing.append(f"{count}, first {done.skipped[0]}")
    if done.unknown_labels:
        labels = ", ".join(map(str, done.unknown_labels))
        missing.append(f"{labels}: the label is unknown to the model, so that only outlines are scored")
    if missing:
        raise IncompleteBatchError(f"{'; '.join(missing)} (all in {folder / 'report.json'})")
