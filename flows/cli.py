"""The command line: the flows of this package, and a few look-ups."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.commands import doctor, registry
from flows.commands.review import review_app
from flows.environment import configure, log_to, quieten, serve_metrics
from flows.interruption import Interruption
from flows.options import WORKSPACE, WorkspaceOption, out, output
from sgcldff.disks import FullDiskWatch
from sgcldff.errors import IncompleteBatchError, SgcldffError
from sgcldff.redaction import redacted

app = typer.Typer(
    help="Find, outline and type white blood cells in stained smears, and keep the model current.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
data_app = typer.Typer(help="Public data sets: which there are and how to get them.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(doctor.app)
app.add_typer(registry.app, name="registry")
app.add_typer(review_app, name="review")
err = Console(stderr=True, soft_wrap=True)

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


def settings_from(path: Path | None, infer: dict[str, Any] | None = None, **train: Any) -> Any:
    """Read settings, with options of the command line on top."""
    from flows.settings import read_settings

    return read_settings(path, {"train": train, "infer": infer or {}})


def sources_from(folders: list[str], adapter: str, mpp: float | None) -> list[Any]:
    """Name the data sets that a command is about."""
    from sgcldff.datasets import Source

    return [Source(adapter, folder, mpp) for folder in folders]


def chosen_model(workspace: Path, model: str | None) -> str:
    """Find a model that is named, or the one that is used otherwise; say which it is and why."""
    from sgcldff.registry import choose

    choice = choose(registry.registry_of(workspace), model)
    out.print(f"[bold]Model[/bold] {escape(str(choice))}", highlight=False)
    return choice.reference


def where(title: str, **places: object) -> None:
    """End a command with where its results are."""
    named = "  ".join(f"{name}: {place}" for name, place in places.items())
    out.print(f"[bold]{escape(title)}[/bold] {escape(named)}", highlight=False)


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what the libraries log, and tracebacks.")
    ] = False,
    log_json: Annotated[
        Path | None,
        typer.Option(envvar="SGCLDFF_LOG", help="Append events to this file, a line of JSON each; secrets left out."),
    ] = None,
) -> None:
    """Find, outline and type white blood cells in stained smears, and keep the model current."""
    if not verbose:
        quieten()
    log_to(log_json)


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
def settings() -> None:
    """Print all settings with their defaults as JSON, by stage."""
    from dataclasses import asdict

    from flows.settings import Settings

    out.print_json(json.dumps(asdict(Settings())))


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
    from flows.prepare import prepare as flow
    from sgcldff.catalog import Catalog
    from tasks.preparing import reasons

    done = flow(sources_from(data, adapter, mpp), str(workspace), settings_from(settings))
    where(f"{done.images} images.", catalog=done.catalog, priors=done.priors.uri)
    if done.set_aside:
        raise IncompleteBatchError(f"{done.set_aside} of the inputs set aside: {reasons(Catalog.open(done.catalog))}")


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
    from flows.evaluate import evaluate as flow

    chosen, sources = settings_from(settings), sources_from(data, adapter, mpp)
    done = flow(sources, str(workspace), chosen_model(workspace, model), chosen)
    folder = Path(done.folder)
    out.print((folder / "report.md").read_text())
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text((folder / "report.json").read_text())
    where("Evaluated.", report=report or folder / "report.json", pictures=folder / "examples.png")
    if done.unusable:
        told = f"first {done.unusable[0]} (all in {folder / 'report.json'})"
        raise IncompleteBatchError(f"{len(done.unusable)} of the images set aside, {told}")


@app.command()
def promote(
    model: Annotated[str, typer.Option(help="The challenger.")] = "models:/sgcldff@challenger",
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Judge it again although a person rejected it or rolled it back.")
    ] = False,
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
) -> None:
    """Make the challenger champion if it is as good on the frozen test set, or say why not."""
    configure(workspace)
    from flows.promote import promote as flow

    where(str(flow(str(workspace), model, settings_from(settings), overrule=overrule)), workspace=workspace)


@app.command()
def rollback(workspace: WorkspaceOption = WORKSPACE) -> None:
    """Make the former champion champion again."""
    configure(workspace)
    from flows.promote import rollback as flow

    champion = flow(str(workspace))
    where(f"Champion is {champion.name} version {champion.version} again.", workspace=workspace)


@app.command()
def gate(
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
    report: Annotated[Path | None, typer.Option("--json", help="Write the report here as JSON.")] = None,
) -> None:
    """Choose the gate's threshold on half of the catalog's labelled fields and measure its recall on the rest."""
    from sgcldff.catalog import Catalog
    from sgcldff.gate import calibrate
    from tasks.workspace import Workspace, write_json

    found = calibrate(Catalog.open(Workspace(str(workspace)).catalog).samples, settings_from(settings).infer.gate)
    told, spec = found.to_dict(), found.spec
    out.print(f"{spec.kept} of {spec.calibrated_on} cells of other groups kept, {found.read:.1%} of the rest read.")
    out.print(f"[infer.gate]\nthreshold = {spec.threshold}\nkept = {spec.kept}", highlight=False, markup=False)
    out.print(f"calibrated_on = {spec.calibrated_on}", highlight=False, markup=False)
    if report is not None:
        write_json(report, told)


@app.command()
def infer(
    slides: Annotated[
        list[str],
        typer.Argument(help="Slides: files, folders, patterns, tables with a column `slide`, or URLs (s3://)."),
    ],
    to: Annotated[Path, output("Folder for the results, one folder a slide.")],
    model: ModelOption = None,
    mpp: MppOption = None,
    gate: Annotated[
        bool | None, typer.Option("--gate/--no-gate", help="Read only what may hold a white cell, or everything.")
    ] = None,
    usable: Annotated[
        bool | None, typer.Option("--usable/--all-areas", help="Count cells in the monolayer only, or everywhere.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Read a random sample until an interval is as narrow: `blast:0.02`.")
    ] = None,
    manual: Annotated[
        Path | None, typer.Option(help="CSV of manual counts to compare with: slide_id, label, count.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Read only slides that a former run set aside.")] = False,
    page: Annotated[
        int | None, typer.Option(min=1, help="Page of files that hold several pictures; one file: `slide.tif#page=2`.")
    ] = None,
    z: Annotated[int | None, typer.Option(min=1, help="Focal plane of slides that have several.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Dask workers; 0 stays in this process.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="A Dask scheduler's address, or a cluster file: see infra/README.md.")
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
    settings: SettingsOption = None,
    metrics_port: MetricsOption = None,
) -> None:
    """Find, outline and type the cells of slides; one folder of results a slide, a table and a page of the batch."""
    serve_metrics(metrics_port)
    configure(workspace)
    from flows.infer import Batch
    from flows.infer import infer as flow
    from tasks.compute import Compute

    chosen = settings_from(settings, {"gate": {"enabled": gate}, "usable_only": usable})
    batch = Batch(mpp, until, manual and str(manual), retry_failed, page, z)
    named = chosen_model(workspace, model)
    results = flow(slides, str(to), str(workspace), named, batch, Compute(cluster, workers), chosen)
    where(f"{len(results)} slides read.", batch=f"{to}/batch.html", reports=f"{to}/*/report.html")


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


@app.command()
def demo(
    to: Annotated[Path, output("Folder for everything that the demo makes.")] = Path("demo"),
    side: Annotated[int, typer.Option(min=2048, help="Side of the synthetic slide, px.")] = 8192,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 5,
) -> None:
    """Make smears and a slide with known truth, run the whole chain on them and compare."""
    configure(to / "workspace")
    from flows.demo import demo as flow
    from flows.demo import summary

    found = flow(str(to), side, epochs)
    out.print(summary(found))
    where("Demo done.", report=found.report, mlflow=found.mlflow, prefect=found.prefect)


def main() -> None:
    """Run the command line; known errors, full disks and Ctrl-C end in one line and their exit code."""
    interruption = Interruption(err)
    interruption.watch()
    try:
        with FullDiskWatch():
            app()
    except SgcldffError as error:
        err.print(f"[bold red]sgcldff:[/bold red] {escape(redacted(str(error)))}", highlight=False)
        sys.exit(error.exit_code)
    finally:
        if interruption.came:
            interruption.end()
