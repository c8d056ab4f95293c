"""Slides: read, and the gate in front of it calibrated."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.registry import chosen_model
from flows.environment import configure, serve_metrics, server_configured
from flows.options import (
    WORKSPACE,
    MetricsOption,
    ModelOption,
    MppOption,
    SettingsOption,
    WorkspaceOption,
    out,
    output,
    settings_from,
    where,
)

app = typer.Typer()


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
    from sgcldff.slides import find_slides

    spec = settings_from(settings, {"gate": {"enabled": gate}, "usable_only": usable})
    found = find_slides(slides, mpp)
    named = chosen_model(workspace, model)
    from tasks.batch import Batch, Reading, chosen, read_batch
    from tasks.compute import Compute

    batch, compute = Batch(mpp, until, manual and str(manual), retry_failed), Compute(cluster, workers)
    if server_configured():
        from flows.infer import infer as flow

        results = flow(slides, str(to), str(workspace), named.reference, batch, compute, spec)
    else:
        results = read_batch(chosen(found, to, retry_failed), Reading(named, str(to), batch, compute, spec.infer))
    where(f"{len(results)} slides read.", batch=f"{to}/batch.html", reports=f"{to}/*/report.html")


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
