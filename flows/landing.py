"""What is new in a landing folder of slides, read with the champion."""

import time
from pathlib import Path

from prefect import flow
from prefect.states import Completed, State

from flows.settings import Settings
from sgcldff.core.errors import MissingInputError, NothingFoundError
from sgcldff.registry import choose
from sgcldff.results.batch import unread
from sgcldff.slides import SlideEntry, find_slides
from sgcldff.slides.content import changed_at
from tasks.batch import Batch, Reading, read_batch
from tasks.compute import Compute
from tasks.workspace import Workspace

NOTHING = "Nothing new"
"""Name of the state in which a run ends that found no slide to read."""


@flow(name="read-landing", flow_run_name="read-landing")
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

    A slide that was set aside is not tried again before its file changes, or `sgcldff infer --retry-failed` asks for
    it; one that is still being copied is left for the next run.

    Args:
        landing: Folder, below which slides arrive in any folders.
        out: Folder for the results, one folder a slide.
        workspace: Folder of the registry.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or a folder.
        settle_s: Time for which a file must not have changed before it is read, s.
        batch: How the slides are counted.
        compute: Dask cluster, or worker processes on this machine.
        settings: Settings by stage; defaults where left out.
    """
    how, settled = batch or Batch(), time.time() - settle_s
    new = [slide for slide in unread(arrived(landing, how.mpp), out) if changed_at(Path(slide.uri)) <= settled]
    if not new:
        return Completed(name=NOTHING, message=f"{landing}: no new slide", data=[])
    found = choose(Workspace(workspace).tracking_uri, model)
    return read_batch(new, Reading(found, out, how, compute or Compute(), (settings or Settings()).infer))


def arrived(landing: str, mpp: float | None) -> tuple[SlideEntry, ...]:
    """Find all slides of a folder, which may be empty.

    Raises
    ------
    MissingInputError
        If the folder is not there: so looks a disk that is not mounted.
    """
    if not Path(landing).is_dir():
        raise MissingInputError(f"{landing}: no such landing folder; make or mount it, or name another")
    try:
        return find_slides([landing], mpp)
    except NothingFoundError:
        return ()
