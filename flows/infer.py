"""Slides to cells, differentials and reports."""

from flows.recorded import recorded_flow
from flows.settings import Settings
from sgcldff.registry import choose_model
from sgcldff.results.delivery import local_results
from sgcldff.slides import find_slides
from tasks.batch import Batch, read_batch, slides_to_read
from tasks.compute import Compute
from tasks.workspace import Workspace


@recorded_flow("infer", "slides")
def infer(
    slides: list[str],
    out: str,
    workspace: str,
    model: str | None = None,
    batch: Batch | None = None,
    compute: Compute | None = None,
    settings: Settings | None = None,
) -> list[str]:
    """Read slides with a model; returns the folders of their results.

    The model's version is fixed when the batch starts. A slide that cannot be read is skipped and the others go on; a
    slide that was interrupted resumes at its last shard.

    Args:
        slides: Files, folders, patterns, OME-Zarr folders, tables with a column `slide`, or URLs.
        out: Folder, or URL such as `s3://bucket/prefix`, for the results: a folder per slide, and a table and a page.
        workspace: Folder of the registry.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released` or a folder; by default the champion, or the
            released model if there is no champion.
        batch: How the slides are counted.
        compute: Dask cluster, or worker processes on this machine.
        settings: Settings by stage; by default the built-in ones.

    Raises
    ------
    InputError
        If no slide is found, none can be read, or `out` contains results of other slides of the same name.
    IncompleteBatchError
        If some slides were skipped; the message names them with the reasons.
    """
    options, spec = batch or Batch(), settings or Settings()
    chosen_model = choose_model(Workspace(workspace).tracking_uri, model)
    entries = slides_to_read(find_slides(slides, options.mpp, options.plane), local_results(out), options.retry_failed)
    return read_batch(entries, chosen_model, out, options, compute or Compute(), spec.infer, spec.report)
