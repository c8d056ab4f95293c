"""Slides to cells, differentials and reports."""

from collections import Counter
from pathlib import Path
from typing import NoReturn

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.settings import Settings
from sgcldff.errors import IncompleteBatchError, InputError
from sgcldff.registry import Registry
from sgcldff.slides.opening import slide_id
from tasks.compute import Compute, address_of, processes
from tasks.slides import SlideJob, read_slide
from tasks.workspace import Workspace


@flow(name="infer", flow_run_name="infer")
def infer(
    slides: list[str],
    model: str,
    out: str,
    workspace: str,
    mpp: float | None = None,
    compute: Compute | None = None,
    settings: Settings | None = None,
) -> list[str]:
    """Read slides with a model; returns the folders of their results.

    The model's version is fixed when the batch begins. A slide that cannot be read is set aside and the others go on;
    a slide that was interrupted goes on at its last shard.

    Args:
        slides: Files, or OME-Zarr folders.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or a folder.
        out: Folder for the results, one folder a slide.
        workspace: Folder of the registry.
        mpp: um/px of the slides that do not say.
        compute: Dask scheduler, or worker processes on this machine.
        settings: Settings by stage; defaults where left out.

    Raises
    ------
    InputError
        If two slides have the same name, or no slide could be read.
    IncompleteBatchError
        If some slides were set aside; the message names them with their reasons.
    """
    chosen, where = settings or Settings(), compute or Compute()
    require_distinct(slides)
    reference, folder = Registry(Workspace(workspace).tracking_uri).resolve(model)
    jobs = [SlideJob(slide, mpp, str(folder), reference, out, chosen.infer) for slide in slides]
    with processes(where) as client:
        states = [read_slide(job, address_of(client), return_state=True) for job in jobs]
    outcomes = [state.result(raise_on_failure=False) for state in states]
    failed = {slide: told for slide, told in zip(slides, outcomes, strict=True) if isinstance(told, BaseException)}
    if failed:
        create_table_artifact([{"slide": name, "reason": str(why)} for name, why in failed.items()], key="set-aside")
        refuse(failed, len(slides))
    return outcomes


def require_distinct(slides: list[str]) -> None:
    """Raise `InputError` where there are no slides, or two whose results would share a folder."""
    if not slides:
        raise InputError("no slide was named: give at least one file or OME-Zarr folder")
    names = Counter(slide_id(Path(slide)) for slide in slides)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise InputError(f"several slides are called {', '.join(twice)}: infer them into different folders, or rename")


def refuse(failed: dict[str, BaseException], slides: int) -> NoReturn:
    """End a batch in which slides were set aside: with the slide's own error where there was only one slide."""
    if slides == 1:
        raise next(iter(failed.values()))
    reasons = "; ".join(f"{slide}: {why}" for slide, why in failed.items())
    raise IncompleteBatchError(f"{len(failed)} of {slides} slides were set aside, the others are done. {reasons}")
