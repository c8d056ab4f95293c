"""New slides in a landing folder, read with the champion."""

import time
from pathlib import Path

from prefect import State
from prefect.states import Completed

from flows.recorded import recorded_flow
from flows.settings import Settings
from sgcldff.core.errors import MissingInputError, NothingFoundError
from sgcldff.registry import choose_model
from sgcldff.results.batch import unread
from sgcldff.results.delivery import local_results
from sgcldff.slides import find_slides
from sgcldff.slides.content import changed_at
from tasks.batch import Batch, read_batch
from tasks.compute import Compute
from tasks.workspace import Workspace

NOTHING_NEW = "Nothing new"
"""Name of the final state of a run that found no slide to read."""


@recorded_flow("read-landing", "landing")
def read_landing(
    landing: str,
    out: str,
    workspace: str,
    model: str = "models:/sgcldff@champion",
    settle_s: float = 60.0,
    batch: Batch | None = None,
    compute: Compute | None = None,
    settings: Settings | None = None,
) -> list[str] | State[list[str]]:
    """Read the slides of a landing folder that were not read before; returns the folders of their results.

    A skipped slide is not retried until its file changes or `sgcldff infer --retry-failed` is run; a slide that is
    still being copied is left for the next run.

    Args:
        landing: Folder below which slides arrive, in subfolders too.
        out: Folder for the results, one folder per slide.
        workspace: Folder of the registry.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or a folder.
        settle_s: Time for which a file must be unchanged before it is read, s.
        batch: How the slides are counted.
        compute: Dask cluster, or worker processes on this machine.
        settings: Settings by stage; by default the built-in ones.
    """
    if not Path(landing).is_dir():  # as when a disk is not mounted
        raise MissingInputError(f"{landing}: no such landing folder; create or mount it, or name another")
    options, latest = batch or Batch(), time.time() - settle_s
    try:
        landed = find_slides([landing], options.mpp)
    except NothingFoundError:
        landed = ()
    new = [slide for slide in unread(landed, local_results(out)) if changed_at(Path(slide.uri)) <= latest]
    if not new:
        return Completed(name=NOTHING_NEW, message=f"{landing}: no new slide", data=[])
    chosen_model, spec = choose_model(Workspace(workspace).tracking_uri, model), settings or Settings()
    return read_batch(new, chosen_model, out, options, compute or Compute(), spec.infer, spec.report)
