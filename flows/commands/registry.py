"""`sgcldff promote`, `rollback` and `registry`: versions of the model, decisions on them, and exports."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows import completion, options
from flows.checks import require_all, require_known_model, require_prepared, require_sources
from flows.options import Panel, examples, out, output, print_outcome, settings_from, sources_from
from sgcldff.core.disks import require_writable
from sgcldff.core.errors import InputError, StoreError
from sgcldff.core.locations import Address
from sgcldff.core.settings import require
from sgcldff.core.wording import counted
from tasks.progress import bar
from tasks.workspace import WORKSPACE, Workspace

if TYPE_CHECKING:
    from sgcldff.data.adapters import Source
    from sgcldff.evaluation.calibration.held_out import HeldOutConfidence
    from sgcldff.promotion import Decision
    from sgcldff.registry import ChosenModel, Registry

app = typer.Typer()
registry_app = typer.Typer(help="Show, approve, reject and copy versions of the model.", no_args_is_help=True)
app.add_typer(registry_app, name="registry", rich_help_panel=Panel.REGISTRY)

ByOption = Annotated[
    str | None, typer.Option(help="Who decides, for the record.", show_default="the account that runs this")
]
ReferenceArgument = Annotated[
    str, typer.Argument(help="models:/NAME/VERSION or models:/NAME@ALIAS.", autocompletion=completion.registered_models)
]
AnyModelArgument = Annotated[
    str,
    typer.Argument(
        help="models:/NAME/VERSION, models:/NAME@ALIAS, a folder, or `released`.", autocompletion=completion.models
    ),
]


@app.command(
    rich_help_panel=Panel.REGISTRY,
    epilog=examples("sgcldff promote", "sgcldff promote --model models:/sgcldff/4 --settings lab.toml"),
)
def promote(
    model: Annotated[
        str, typer.Option(help="The challenger.", autocompletion=completion.registered_models)
    ] = "models:/sgcldff@challenger",
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Judge a version again that was rejected by a person or rolled back.")
    ] = False,
    workspace: options.WorkspaceOption = WORKSPACE,
    settings: options.SettingsOption = None,
) -> None:
    """Make the challenger champion if it is as good on the frozen test set, or report why it is not."""
    require_all(
        lambda: require_writable(workspace),
        lambda: settings_from(settings),
        lambda: model.startswith("models:/") and require_known_model(model, workspace),
    )
    from flows.environment import configure

    configure(workspace)
    from flows.promote import promote as flow

    print_outcome(str(flow(str(workspace), model, settings_from(settings), overrule=overrule)), workspace=workspace)


@app.command(rich_help_panel=Panel.REGISTRY, epilog=examples("sgcldff rollback"))
def rollback(workspace: options.WorkspaceOption = WORKSPACE) -> None:
    """Make the previous champion champion again."""
    require_writable(workspace)
    if is_empty(workspace):
        address = Address.parse(Workspace(str(workspace)).tracking_uri)
        raise InputError(f"no model is registered at {address}; check --workspace, or train one: `sgcldff train`")
    from flows.environment import configure

    configure(workspace)
    from flows.promote import rollback as flow

    champion = flow(str(workspace))
    print_outcome(f"Champion is {champion.name} version {champion.version} again.", workspace=workspace)


@registry_app.command(epilog=examples("sgcldff registry show", "sgcldff registry show models:/sgcldff@champion --json"))
def show(
    model: Annotated[
        str | None,
        typer.Argument(
            help="models:/NAME/VERSION or models:/NAME@ALIAS.",
            show_default="all versions",
            autocompletion=completion.registered_models,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all records.")] = False,
    workspace: options.WorkspaceOption = WORKSPACE,
) -> None:
    """List the versions with their aliases, or show the decisions on one of them with the reasons."""
    if model is not None:
        require_known_model(model, workspace)
        show_version(registry_of(workspace), model, as_json)
    elif is_empty(workspace):
        show_none(as_json)
    else:
        show_versions(registry_of(workspace), as_json)


@registry_app.command(epilog=examples("sgcldff registry verify", "sgcldff registry verify --key lab.pub"))
def verify(
    key: Annotated[
        Path | None,
        typer.Option(help="Public Ed25519 key, PEM, of those who decide.", show_default="signatures of any key"),
    ] = None,
    workspace: options.WorkspaceOption = WORKSPACE,
) -> None:
    """Check that no decision record was changed, removed or added by other means."""
    from sgcldff.promotion.record_chain import read_signer

    signer = read_signer(key) if key else None
    if is_empty(workspace):
        show_none(as_json=False)
        return
    chain = registry_of(workspace).verify_decisions(signer)
    if chain.faults:
        raise StoreError(
            f"{counted(len(chain.faults), 'decision record is', 'decision records are')} not as they were "
            f"stored: {'; '.join(chain.faults)}"
        )
    last = f", the last {chain.newest}" if chain.newest else ""
    out.print(f"{counted(chain.records, 'decision record')} as stored{last}.", highlight=False, soft_wrap=True)


@registry_app.command(epilog=examples("sgcldff registry freeze --by 'A. Hematologist'"))
def freeze(by: ByOption = None, workspace: options.WorkspaceOption = WORKSPACE) -> None:
    """Make the catalog's current test split the test set of all further promotions."""
    require_prepared(workspace)
    from sgcldff.core.records import Split
    from sgcldff.data.catalog import Catalog
    from sgcldff.promotion import Attribution, FrozenTest

    split = Catalog.open(Workspace(str(workspace)).catalog).select(Split.TEST)
    frozen = registry_of(workspace).freeze(FrozenTest.of(split), Attribution.now(by))
    size = f"{counted(len(frozen.samples), 'image')} of {counted(frozen.groups, 'group')}"
    out.print(f"Frozen: test set {frozen.digest}, {size}.")


@registry_app.command(epilog=examples("sgcldff registry approve models:/sgcldff/4 --by 'A. Hematologist'"))
def approve(model: ReferenceArgument, by: ByOption = None, workspace: options.WorkspaceOption = WORKSPACE) -> None:
    """Promote a version that waits for approval, if nothing has changed since it was judged."""
    require_registered(model, workspace)
    from flows.environment import configure, launch

    configure(workspace)
    from flows.promote import approve as flow

    champion = launch(flow, str(workspace), model, by)
    out.print(f"Champion is {champion.name} version {champion.version}.")


@registry_app.command(
    epilog=examples("sgcldff registry reject models:/sgcldff/4 --because 'misses blasts on our stain'")
)
def reject(
    model: ReferenceArgument,
    because: Annotated[str, typer.Option(help="The reason, for those who read the record later.")],
    by: ByOption = None,
    workspace: options.WorkspaceOption = WORKSPACE,
) -> None:
    """Reject a version, so that no later promotion considers it again."""
    require_registered(model, workspace)
    from flows.environment import configure, launch

    configure(workspace)
    from flows.promote import reject as flow

    rejected = launch(flow, str(workspace), model, because, by)
    out.print(f"Rejected {rejected.name} version {rejected.version}.")


@registry_app.command(epilog=examples("sgcldff registry adopt", "sgcldff registry adopt /models/from-another-site"))
def adopt(model: AnyModelArgument = "released", workspace: options.WorkspaceOption = WORKSPACE) -> None:
    """Register a model from elsewhere, by default the released one, as challenger."""
    require_all(lambda: require_writable(workspace), lambda: require_known_model(model, workspace))
    registry = registry_of(workspace)
    source, folder = registry.resolve(model)
    adopted = registry.adopt(source, folder)
    out.print(
        f"{adopted.name} version {adopted.version} ({adopted.digest}) is challenger: `sgcldff promote` judges it."
    )


@registry_app.command(
    epilog=examples(
        "sgcldff registry export models:/sgcldff@champion --out champion --half",
        "sgcldff registry export models:/sgcldff@champion --out release --half --held-out /data/other-stain",
        "sgcldff registry export released --out zoo --bioimageio",
    )
)
def export(
    model: AnyModelArgument,
    to: Annotated[Path, output("Folder for the model's files; created if needed.")],
    half: Annotated[bool, typer.Option("--half", help="Write weights in half precision, at half the size.")] = False,
    bioimageio: Annotated[
        bool, typer.Option("--bioimageio", help="Write a BioImage.IO package: TorchScript, description, test image.")
    ] = False,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Labelled images of stains that the model was not trained on, to calibrate its confidence and choose "
            "the limit below which it abstains; may be repeated.",
            show_default="confidence as trained",
        ),
    ] = None,
    workspace: options.WorkspaceOption = WORKSPACE,
) -> None:
    """Write a model into a folder: weights, spec, reference, and the record of its images."""
    stains = sources_from(held_out or [], "auto", None)
    require_all(
        lambda: require_known_model(model, workspace),
        lambda: require(not (half and bioimageio), "--half: BioImage.IO packages have full precision; leave it out"),
        lambda: require(
            not (held_out and bioimageio), "--held-out: export a model first, then a package of that folder"
        ),
        lambda: require_sources(held_out, "auto", None) if held_out else None,
    )
    from sgcldff.models.checkpoint import saved_digest
    from sgcldff.models.export import export_model

    source, folder = registry_of(workspace).resolve(model)
    if bioimageio:
        from sgcldff.models.bioimageio import export_bioimageio

        out.print(escape(f"{source.name} {source.version} is written to {export_bioimageio(folder, source, to)}."))
        return
    temperature, limit = 1.0, None
    if stains:
        fitted = _fit_confidence(folder, stains)
        temperature, limit = fitted.temperature, fitted.min_confidence
        out.print(escape(f"{fitted}."), highlight=False)
    place = export_model(folder, to, half=half, temperature=temperature, min_confidence=limit)
    out.print(escape(f"{source.name} {source.version} is written to {place}, digest {saved_digest(place)}."))


def _fit_confidence(model: Path, stains: "Iterable[Source]") -> "HeldOutConfidence":
    """Fit the confidence of a saved model to images that are not among its training images."""
    from sgcldff.data.catalog import ingest
    from sgcldff.evaluation.calibration.held_out import fit_confidence
    from sgcldff.models.checkpoint import TRAINED_ON
    from sgcldff.models.model import load_model
    from sgcldff.promotion.leakage import TrainingRecord

    with TemporaryDirectory() as scratch, bar("images") as progress:
        samples = ingest((found for stain in stains for found in stain.resolved()), scratch, progress=progress).samples
    record = TrainingRecord.read(model / TRAINED_ON)
    return fit_confidence(load_model(model, "cpu"), samples, record.images if record else frozenset())


def registry_of(workspace: Path) -> "Registry":
    """Open the registry of a workspace, or of the configured server."""
    from sgcldff.registry import Registry

    return Registry(Workspace(str(workspace)).tracking_uri)


def is_empty(workspace: Path) -> bool:
    """Return whether a registry is known, without MLflow, to be empty."""
    from sgcldff.models.names import models_in_registry

    return models_in_registry(Address.parse(Workspace(str(workspace)).tracking_uri)) == {}


def require_registered(model: str, workspace: Path) -> None:
    """Raise `InputError` if a reference is not of a registered model, or the model is known not to exist."""
    from sgcldff.models.names import parse_model_name

    require_writable(workspace)
    parse_model_name(model)
    require_known_model(model, workspace)


def choose_and_print(workspace: Path, model: str | None) -> "ChosenModel":
    """Find the model that is named, or the default one; print which it is and why."""
    from sgcldff.registry import choose_model

    chosen = choose_model(Workspace(str(workspace)).tracking_uri, model)
    out.print(f"[bold]Model[/bold] {escape(str(chosen))}", highlight=False)
    return chosen


def show_none(as_json: bool) -> None:
    """Print that nothing is registered, and which model is used instead."""
    if as_json:
        out.print_json(json.dumps({"test_set": None, "versions": []}))
        return
    out.print(
        f"No model is registered yet: slides are read with the released model ({released_name()}). `sgcldff registry "
        "adopt` registers it, and `sgcldff train` trains one on your images.",
        highlight=False,
    )


def released_name() -> str:
    """Return name and version of the model that is used if there is no champion."""
    from sgcldff.models.released import RELEASED_NAME, RELEASED_VERSION

    return f"{RELEASED_NAME} {RELEASED_VERSION}"


def show_versions(registry: "Registry", as_json: bool) -> None:
    """Print all versions, newest first, and the frozen test set."""
    versions, frozen = registry.versions(), registry.test_set()
    if as_json:
        rows = [asdict(version) | {"outcome": version.outcome} for version in versions]
        out.print_json(json.dumps({"test_set": frozen.digest if frozen else None, "versions": rows}))
        return
    table = Table("version", "aliases", "registered (UTC)", "decision", "accuracy", "cell IoU", "weights")
    for version in versions:
        scores = (version.tags.get(f"sgcldff.score.{name}", "") for name in ("accuracy", "cell_iou"))
        registered = datetime.fromtimestamp(version.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        aliases = ", ".join(version.aliases)
        table.add_row(version.ref.version, aliases, registered, version.outcome, *scores, version.ref.digest)
    out.print(table)
    for version in versions:
        if version.calibrated:
            out.print(f"Version {version.ref.version} is calibrated: {escape(version.calibrated)}.", highlight=False)
    if not any("champion" in version.aliases for version in versions):
        out.print(
            f"There is no champion: slides are read with the released model ({released_name()}).", highlight=False
        )
    size = "none yet"
    if frozen:
        size = f"{frozen.digest}, {counted(len(frozen.samples), 'image')} of {counted(frozen.groups, 'group')}"
    out.print(f"Frozen test set: {size}.", highlight=False)


def show_version(registry: "Registry", model: str, as_json: bool) -> None:
    """Print the decision records of a version: the newest in full, and the earlier ones in one line each."""
    from sgcldff.models.checkpoint import open_spec

    ref, folder = registry.resolve(model)
    aliases = [alias for alias, number in registry.aliases().items() if number == ref.version]
    calibrated = open_spec(folder).calibrated
    decisions = registry.decisions(ref)
    if as_json:
        records = [json.loads(decision.to_json()) for decision in decisions]
        out.print_json(json.dumps(asdict(ref) | {"aliases": aliases, "calibrated": calibrated, "decisions": records}))
        return
    out.print(f"{ref.name} version {ref.version} ({ref.digest}), {', '.join(aliases) or 'no alias'}", highlight=False)
    if calibrated:
        out.print(f"calibrated: {escape(calibrated)}", highlight=False)
    if not decisions:
        out.print("There is no decision on it yet: `sgcldff promote` judges it.")
        return
    print_decision(decisions[-1])
    for former in reversed(decisions[:-1]):
        out.print(escape(f"before: {former.outcome} at {former.signed.at} by {former.signed.by}"), highlight=False)


def print_decision(decision: "Decision") -> None:
    """Print a decision record."""
    from sgcldff.promotion.decision_record import FINDING_COLUMNS, facts_of, finding_cells

    out.print(f"[bold]{escape(decision.outcome.capitalize())}[/bold]")
    for reason in decision.reasons:
        out.print(f"- {escape(reason)}", highlight=False)
    for name, text in facts_of(decision).items():
        out.print(f"{name}: {escape(text)}", highlight=False)
    if decision.findings:
        table = Table(*FINDING_COLUMNS)
        for finding in decision.findings:
            table.add_row(*map(escape, finding_cells(finding)))
        out.print(table)
