"""`sgcldff infer` and `sgcldff gate`: reading slides, and calibration of the gate."""

from pathlib import Path
from typing import Annotated

import typer

from flows import checks, options
from flows.commands.registry import choose_and_print
from flows.options import Panel, examples, out, output, print_outcome, settings_from
from sgcldff.core.disks import require_writable
from sgcldff.core.wording import counted
from sgcldff.results.exports import FORMATS, require_exports
from tasks.workspace import WORKSPACE

app = typer.Typer()


@app.command(
    rich_help_panel=Panel.SLIDES,
    epilog=examples(
        "sgcldff infer slide.svs --out results",
        "sgcldff infer /data/slides '/more/**/*.tif' --out results --mpp 0.25",
        "sgcldff infer slides.csv --out results --until monocyte:0.05 --manual counts.csv",
        "sgcldff infer slide.svs --out results --estimate",
    ),
)
def infer(
    slides: Annotated[
        list[str],
        typer.Argument(help="Slides: files, folders, patterns, tables with a column `slide`, or URLs (s3://)."),
    ],
    to: Annotated[str, typer.Option("--out", "-o", help="Folder or URL (s3://) for the results, a folder per slide.")],
    model: options.ModelOption = None,
    mpp: options.SlideMppOption = None,
    gate: Annotated[
        bool | None,
        typer.Option(
            "--gate/--no-gate",
            help="Read only regions that may contain a white blood cell, or everything.",
            show_default=options.FROM_SETTINGS,
        ),
    ] = None,
    usable: Annotated[
        bool | None,
        typer.Option(
            "--usable/--all-areas",
            help="Count cells in the monolayer only, or everywhere.",
            show_default=options.FROM_SETTINGS,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="Read a random sample until the interval of a type is this narrow: `monocyte:0.05`.",
            show_default="read everything",
        ),
    ] = None,
    manual: Annotated[
        Path | None,
        typer.Option(
            help="Table of manual counts to compare with: slide_id, label, count.", show_default="not compared"
        ),
    ] = None,
    wbc: Annotated[
        float | None,
        typer.Option(
            help="White count of the blood, 10^9/L, for absolute counts; of several slides: column `wbc` of a table.",
            show_default="percentages only",
        ),
    ] = None,
    nrbc_excluded: Annotated[
        bool | None,
        typer.Option(
            "--nrbc-excluded/--nrbc-included",
            help="Whether your analyser leaves nucleated red cells out of the white count; otherwise it is corrected.",
            show_default=options.FROM_SETTINGS,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of your reference intervals, which mark what lies outside.",
            show_default=options.FROM_SETTINGS,
        ),
    ] = None,
    embeddings: Annotated[
        bool | None,
        typer.Option(
            "--embeddings/--no-embeddings",
            help="Keep the features from which each cell was classified, as a column of `cells.parquet`.",
            show_default=options.FROM_SETTINGS,
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Read only slides that an earlier run skipped.")
    ] = False,
    page: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Page to read of multi-page files; for a single file: `slide.tif#page=2`.",
            show_default="the only one",
        ),
    ] = None,
    z: Annotated[
        int | None, typer.Option(min=1, help="Focal plane to read of slides with several.", show_default="the only one")
    ] = None,
    also: Annotated[
        str,
        typer.Option(
            help=f"Formats for other systems that are written too, with commas: {', '.join(FORMATS)}.",
            show_default="none",
        ),
    ] = "",
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what reading would take: tiles, time, memory and disk.")
    ] = False,
    workers: options.WorkersOption = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler, or a cluster file (docs/operations/clusters.md).",
            show_default="this machine",
        ),
    ] = None,
    workspace: options.WorkspaceOption = WORKSPACE,
    settings: options.SettingsOption = None,
    metrics_port: options.MetricsOption = None,
) -> None:
    """Find, outline and classify the white blood cells of slides, and report their differentials."""
    overrides = {"gate": {"enabled": gate}, "usable_only": usable, "embeddings": embeddings}
    formats = tuple(filter(None, also.split(",")))

    def require_settings() -> None:
        stated = settings_from(settings, overrides).report.reference
        checks.require_laboratory(wbc, reference or (Path(stated) if stated else None))

    checks.require_all(
        lambda: require_writable(workspace),
        lambda: checks.require_results(to),
        require_settings,
        lambda: checks.require_slides(slides, mpp),
        lambda: checks.require_known_model(model, workspace),
        lambda: checks.require_counting(until, manual, model, workspace),
        lambda: checks.require_cluster(cluster),
        lambda: require_exports(formats),
    )
    from flows.environment import configure, serve_metrics, server_configured

    serve_metrics(metrics_port)
    configure(workspace)
    from sgcldff.slides import find_slides
    from sgcldff.slides.pixels.page_selection import Plane

    spec, entries = settings_from(settings, overrides), find_slides(slides, mpp, Plane(page, z))
    chosen_model = choose_and_print(workspace, model)
    if estimate:
        from tasks.estimate import estimate_slides, in_a_line

        for slide, taken in estimate_slides(entries, chosen_model, spec.infer):
            out.print(in_a_line(slide.id, taken, workers), highlight=False, markup=False)
        return
    from sgcldff.results.delivery import local_results
    from tasks.batch import Batch, read_batch, slides_to_read
    from tasks.compute import Compute

    counts, intervals = (str(file) if file else None for file in (manual, reference))
    batch = Batch(mpp, until, counts, retry_failed, page, z, wbc, intervals, nrbc_excluded, also=formats)
    compute = Compute(cluster, workers)
    if server_configured():
        from flows.infer import infer as flow

        results = flow(slides, to, str(workspace), chosen_model.reference, batch, compute, spec)
    else:
        wanted = slides_to_read(entries, local_results(to), retry_failed)
        results = read_batch(wanted, chosen_model, to, batch, compute, spec.infer, spec.report)
    print_outcome(f"{counted(len(results), 'slide')} read.", batch=f"{to}/batch.html", reports=f"{to}/*/report.html")


@app.command(
    rich_help_panel=Panel.SLIDES,
    epilog=examples(
        "sgcldff classify slide.svs --cells cells.geojson --out results",
        "sgcldff classify slide.svs --cells cells.parquet --out results --model models:/sgcldff/3",
    ),
)
def classify(
    slide: Annotated[str, typer.Argument(help="Slide or photograph.")],
    cells: Annotated[
        Path, typer.Option(help="Outlines as GeoJSON (QuPath) or GeoParquet, in px of the slide's level 0.")
    ],
    to: Annotated[Path, output("Folder for the results, in a folder named after the slide.")],
    model: options.ModelOption = None,
    mpp: options.SlideMppOption = None,
    workers: options.WorkersOption = None,
    workspace: options.WorkspaceOption = WORKSPACE,
    settings: options.SettingsOption = None,
) -> None:
    """Classify cells that QuPath, Cellpose or a person outlined; none are searched."""
    checks.require_all(
        lambda: require_writable(workspace),
        lambda: settings_from(settings),
        lambda: checks.require_there(cells, "file of outlines"),
        lambda: checks.require_slides([slide], mpp),
        lambda: checks.require_known_model(model, workspace),
    )
    from flows.environment import configure

    configure(workspace)
    from sgcldff.slides import find_slides
    from tasks.batch import Batch, read_batch
    from tasks.compute import Compute

    spec, chosen_model = settings_from(settings), choose_and_print(workspace, model)
    batch, compute = Batch(mpp, cells=str(cells)), Compute(None, workers)
    (folder,) = read_batch(find_slides([slide], mpp), chosen_model, str(to), batch, compute, spec.infer, spec.report)
    print_outcome("Cells classified.", cells=f"{folder}/cells.parquet", report=f"{folder}/report.html")


@app.command(rich_help_panel=Panel.SLIDES, epilog=examples("sgcldff gate", "sgcldff gate --json gate.json"))
def gate(
    workspace: options.WorkspaceOption = WORKSPACE,
    settings: options.SettingsOption = None,
    report: options.ReportOption = None,
) -> None:
    """Choose the gate's threshold on half of the catalog's labelled fields, and measure its recall on the rest."""
    checks.require_all(
        lambda: checks.require_prepared(workspace),
        lambda: settings_from(settings),
        lambda: checks.require_report(report),
    )
    from sgcldff.core.json_file import write_json
    from sgcldff.data.catalog import Catalog
    from sgcldff.inference.gate import choose_threshold
    from tasks.workspace import Workspace

    samples = Catalog.open(Workspace(str(workspace)).catalog).samples
    chosen = choose_threshold(samples, settings_from(settings).infer.gate)
    spec, area = chosen.spec, f"{chosen.read:.1%} of the remaining area is read"
    low, high = chosen.held_out.interval()
    interval = f"{low:.1%} to {high:.1%} by patient or slide"
    out.print(f"{spec.kept} of {spec.calibrated_on} cells of held-out groups kept ({interval}), {area}.")
    for label, recall in chosen.by_type.items():
        low, high = recall.interval()
        out.print(f"{label}: {recall.kept} of {recall.of} ({low:.1%} to {high:.1%})")
    out.print(f"[infer.gate]\nthreshold = {spec.threshold}\nkept = {spec.kept}", highlight=False, markup=False)
    out.print(f"calibrated_on = {spec.calibrated_on}", highlight=False, markup=False)
    if report is not None:
        write_json(report, chosen.to_dict())
