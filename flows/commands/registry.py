"""Versions, decisions and the frozen test set, on the command line."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.environment import configure
from flows.options import WORKSPACE, SettingsOption, WorkspaceOption, out, output, settings_from, where

if TYPE_CHECKING:
    from sgcldff.promotion import Decision
    from sgcldff.registry import Choice, Registry, Version

app = typer.Typer()
registry_app = typer.Typer(
    help="Versions of the model: what was decided of them, and a person's say.", no_args_is_help=True
)
app.add_typer(registry_app, name="registry")

ByOption = Annotated[str | None, typer.Option(help="Who decides, for the record; by default the account in use.")]
ReferenceArgument = Annotated[str, typer.Argument(help="models:/NAME/VERSION or models:/NAME@ALIAS.")]
AnyModelArgument = Annotated[
    str, typer.Argument(help="models:/NAME/VERSION, models:/NAME@ALIAS, a folder, or `released`.")
]


@registry_app.command()
def show(
    model: Annotated[
        str | None, typer.Argument(help="models:/NAME/VERSION or models:/NAME@ALIAS; all versions where left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all records.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """List the versions with their aliases, or show on what one of them was decided."""
    registry = registry_of(workspace)
    if model is None:
        show_versions(registry, as_json)
    else:
        show_version(registry, model, as_json)


@registry_app.command()
def freeze(by: ByOption = None, workspace: WorkspaceOption = WORKSPACE) -> None:
    """Make the catalog's present test split the test set of all further promotions."""
    from sgcldff.catalog import Catalog
    from sgcldff.promotion import FrozenTest, Signature
    from sgcldff.records import Split
    from tasks.workspace import Workspace

    split = Catalog.open(Workspace(str(workspace)).catalog).select(Split.TEST)
    frozen = registry_of(workspace).freeze(FrozenTest.of(split), Signature.now(by))
    out.print(f"Frozen: test set {frozen.digest}, {len(frozen.samples)} images of {frozen.groups} groups.")


@registry_app.command()
def approve(model: ReferenceArgument, by: ByOption = None, workspace: WorkspaceOption = WORKSPACE) -> None:
    """Promote a version that waits for approval, if nothing has changed since it was judged."""
    configure(workspace)
    from flows.launch import launch
    from flows.promote import approve as flow

    champion = launch(flow, str(workspace), model, by)
    out.print(f"Champion is {champion.name} version {champion.version}.")


@registry_app.command()
def reject(
    model: ReferenceArgument,
    because: Annotated[str, typer.Option(help="Why, for those who read the record later.")],
    by: ByOption = None,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Reject a version, so that no later promotion takes it up again."""
    configure(workspace)
    from flows.launch import launch
    from flows.promote import reject as flow

    rejected = launch(flow, str(workspace), model, because, by)
    out.print(f"Rejected is {rejected.name} version {rejected.version}.")


@registry_app.command()
def adopt(model: AnyModelArgument = "released", workspace: WorkspaceOption = WORKSPACE) -> None:
    """Register a model from elsewhere, by default the released one, as challenger."""
    registry = registry_of(workspace)
    source, folder = registry.resolve(model)
    adopted = registry.register(folder, tags={"sgcldff.adopted": f"{source.name} {source.version}"})
    out.print(
        f"{adopted.name} version {adopted.version} ({adopted.digest}) is challenger: `sgcldff promote` judges it."
    )


@registry_app.command()
def export(
    model: AnyModelArgument,
    to: Annotated[Path, output("Folder for the model's files; made if needed.")],
    half: Annotated[bool, typer.Option("--half", help="Write weights in half precision, at half the size.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Write a model into a folder: weights, spec, reference, and the record of its images."""
    from sgcldff.exporting import export_model
    from sgcldff.model_folder import saved_digest

    source, folder = registry_of(workspace).resolve(model)
    place = export_model(folder, to, half=half)
    out.print(escape(f"{source.name} {source.version} is written to {place}, digest {saved_digest(place)}."))


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
    from flows.launch import launch
    from flows.promote import promote as flow

    promotion = launch(flow, str(workspace), model, settings_from(settings), overrule=overrule)
    where(str(promotion), workspace=workspace)


@app.command()
def rollback(workspace: WorkspaceOption = WORKSPACE) -> None:
    """Make the former champion champion again."""
    configure(workspace)
    from flows.launch import launch
    from flows.promote import rollback as flow

    champion = launch(flow, str(workspace))
    where(f"Champion is {champion.name} version {champion.version} again.", workspace=workspace)


def registry_of(workspace: Path) -> "Registry":
    """Open the registry of a workspace, or that of the server in use."""
    from sgcldff.registry import Registry
    from tasks.workspace import Workspace

    return Registry(Workspace(str(workspace)).tracking_uri)


def chosen_model(workspace: Path, model: str | None) -> "Choice":
    """Find a model that is named, or the one that is used otherwise; say which it is and why."""
    from sgcldff.registry import choose
    from tasks.workspace import Workspace

    choice = choose(Workspace(str(workspace)).tracking_uri, model)
    out.print(f"[bold]Model[/bold] {escape(str(choice))}", highlight=False)
    return choice


def show_versions(registry: "Registry", as_json: bool) -> None:
    """Print all versions, newest first, and the frozen test set."""
    versions, frozen = registry.versions(), registry.test_set()
    if as_json:
        rows = [asdict(version) | {"outcome": version.outcome} for version in versions]
        out.print_json(json.dumps({"test_set": frozen.digest if frozen else None, "versions": rows}))
        return
    table = Table("version", "aliases", "registered (UTC)", "decision", "accuracy", "cell IoU", "weights")
    for version in versions:
        table.add_row(*cells(version))
    out.print(table)
    size = f"{frozen.digest}, {len(frozen.samples)} images of {frozen.groups} groups" if frozen else "none yet"
    out.print(f"Frozen test set: {size}.", highlight=False)


def cells(version: "Version") -> tuple[str, ...]:
    """Give a version's row."""
    scores = (version.tags.get(f"sgcldff.score.{name}", "") for name in ("accuracy", "cell_iou"))
    registered = datetime.fromtimestamp(version.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return version.ref.version, ", ".join(version.aliases), registered, version.outcome, *scores, version.ref.digest


def show_version(registry: "Registry", model: str, as_json: bool) -> None:
    """Print the records of a version: the newest in full, and what was decided before."""
    ref = registry.resolve(model)[0]
    aliases = [alias for alias, number in registry.aliases().items() if number == ref.version]
    decisions = registry.decisions(ref)
    if as_json:
        records = [json.loads(decision.to_json()) for decision in decisions]
        out.print_json(json.dumps(asdict(ref) | {"aliases": aliases, "decisions": records}))
        return
    out.print(f"{ref.name} version {ref.version} ({ref.digest}), {', '.join(aliases) or 'no alias'}", highlight=False)
    if not decisions:
        out.print("Nothing was decided of it yet: `sgcldff promote` does.")
        return
    show_decision(decisions[-1])
    for former in reversed(decisions[:-1]):
        out.print(escape(f"before: {former.outcome} at {former.signed.at} by {former.signed.by}"), highlight=False)


def show_decision(decision: "Decision") -> None:
    """Print a record."""
    from sgcldff.promotion.decision import COLUMNS, facts_of, finding_cells

    out.print(f"[bold]{escape(decision.outcome.capitalize())}[/bold]")
    for reason in decision.reasons:
        out.print(f"- {escape(reason)}", highlight=False)
    for name, text in facts_of(decision).items():
        out.print(f"{name}: {escape(text)}", highlight=False)
    if decision.findings:
        table = Table(*COLUMNS)
        for finding in decision.findings:
            table.add_row(*map(escape, finding_cells(finding)))
        out.print(table)
