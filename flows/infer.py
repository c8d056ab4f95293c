"""Slides to cells, differentials and reports."""

from pathlib import Path

from prefect import flow

from flows.settings import Settings
from sgcldff.registry import choose
from sgcldff.slides import find_slides
from tasks.batch import Batch, Reading, chosen, read_batch
from tasks.compute import Compute
from tasks.workspace import Workspace


@flow(name="infer", flow_run_name="infer")
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

    The model's version is fixed when the batch begins. A slide that cannot be read is set aside and the others go on;
    a slide that was interrupted goes on at its last shard.

    Args:
        slides: Files, folders, patterns, OME-Zarr folders, tables with a column `slide`, or URLs.
        out: Folder for the results, one folder a slide, and a table and a page of the batch.
        workspace: Folder of the registry.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released` or a folder; where left out, the champion, or,
            where there is none, the released model.
        batch: How the slides are counted.
        compute: Dask cluster, or worker processes on this machine.
        settings: Settings by stage; defaults where left out.

    Raises
    ------
    InputError
        If no slide is found, none of them could be read, or `out` holds results of others of the same name.
    IncompleteBatchError
        If some slides were set aside; the message names them with their reasons.
    """
    how, found = batch or Batch(), choose(Workspace(workspace).tracking_uri, model)
    reading = Reading(found, out, how, compute or Compute(), (settings or Settings()).infer)
    return read_batch(chosen(find_slides(slides, how.mpp), Path(out), how.retry_failed), reading)
