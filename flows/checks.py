"""Checks of a command's input that run before anything is started.

They need no server, no database and no library that takes seconds to load (asserted by `tests/flows/test_checks.py`),
and read the input with the same functions as the commands themselves.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgcldff.core.disks import require_writable
from sgcldff.core.errors import InputError, MissingInputError, NothingFoundError
from sgcldff.core.locations import Address, is_remote
from sgcldff.core.settings import NetSpec, PriorSpec, StatedMpp, require
from sgcldff.data.catalog import require_catalog
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from flows.settings import Settings
    from sgcldff.data.adapters import Source


def require_all(*checks: Callable[[], object]) -> None:
    """Run all checks and report all failures together.

    Raises
    ------
    InputError
        If any check fails: the error itself, or one that lists several.
    """
    errors = list[InputError]()
    for check in checks:
        try:
            check()
        except InputError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise InputError("\n- ".join([f"{len(errors)} inputs are wrong:", *map(str, errors)]))


def require_there(path: Path, what: str) -> None:
    """Raise `MissingInputError` unless a file or folder exists; `what` names its kind in the message."""
    if not path.exists():
        raise MissingInputError(f"{path}: no such {what}; check the name and the current directory")


def require_results(out: str) -> None:
    """Raise an error unless results can be written to a folder or a bucket."""
    if not is_remote(out):
        return require_writable(Path(out))
    from sgcldff.slides.remote.stores import require_bucket

    return require_bucket(out)


def require_report(path: Path | None) -> None:
    """Raise `InputError` if a report cannot be written to the path."""
    if path is not None:
        require(not path.is_dir(), f"{path}: is a folder; name a file")
        require_writable(path.parent)


def require_prepared(workspace: Path) -> None:
    """Raise `InputError` unless a workspace is writable and has a catalog."""
    require_writable(workspace)
    require_catalog(Workspace(str(workspace)).catalog)


def require_parts(settings: "Settings") -> None:
    """Raise `InputError` if the settings name an unknown prior or network.

    The defaults are known to exist and are not looked up, since that would import torch.
    """
    if settings.prior.names != PriorSpec().names:
        from sgcldff.saliency.priors.registry import factory

        for name in settings.prior.names:
            factory(name)
    if settings.net.name != NetSpec().name:
        from sgcldff.models.nets import builder

        builder(settings.net.name)


def require_sources(folders: Iterable[str], adapter: str, mpp: float | None) -> None:
    """Raise `InputError` if a data set is missing or its tables are unreadable; remote ones are not checked."""
    from sgcldff.data.adapters import AUTO, Source
    from sgcldff.data.adapters import adapter as find_adapter

    if adapter != AUTO:
        find_adapter(adapter)
    local = (Source(adapter, folder, mpp) for folder in folders if not is_remote(folder))
    require_all(*(partial(_start_scan, source) for source in local))


def _start_scan(source: "Source") -> None:
    """Scan up to the first image: tables are read before it, and no image is opened."""
    for data_set in source.resolved():
        next(iter(data_set.scan()), None)


def require_slides(inputs: Sequence[str], mpp: StatedMpp = None) -> None:
    """Raise `InputError` if slides are missing or a list of slides is unreadable; remote ones are not checked."""
    from sgcldff.slides import find_slides

    local = [text for text in inputs if not is_remote(text)]
    try:
        if local:
            find_slides(local, mpp)
    except NothingFoundError:
        if len(local) == len(inputs):
            raise


def require_any_slide(inputs: Sequence[str]) -> None:
    """Raise `InputError` unless at least one of the inputs is usable; remote ones are not checked."""
    errors = list[InputError]()
    for text in inputs:
        try:
            require_slides([text])
        except InputError as error:
            errors.append(error)
    if len(errors) == len(inputs):
        raise errors[0]


def require_known_model(reference: str | None, workspace: Path) -> tuple[str, ...] | None:
    """Return a model's classes where they are known without MLflow; refuse a model that is known not to exist.

    Raises
    ------
    InputError
        If there is no such model.
    """
    from sgcldff.models.names import models_in_registry, require_model
    from sgcldff.models.released import RELEASED

    address = Address.parse(Workspace(str(workspace)).tracking_uri)
    if reference is None:
        models = models_in_registry(address)
        if models is None or any("champion" in model.aliases for model in models.values()):
            return None
    spec = require_model(reference or RELEASED, address)
    return spec.labels.classes if spec else None


def require_counting(until: str | None, manual: Path | None, model: str | None, workspace: Path) -> None:
    """Raise `InputError` if the goal of a count or the table of manual counts is invalid."""
    from sgcldff.counting.agreement import read_manual
    from sgcldff.counting.stopping import Goal

    try:
        classes = require_known_model(model, workspace)
    except InputError:
        classes = None
    require_all(
        lambda: until is not None and Goal.parse(until, classes),
        lambda: manual is not None and read_manual(manual, classes),
    )


def require_laboratory(wbc: float | None, reference: Path | None) -> None:
    """Raise `InputError` if the white count or the file of reference intervals is invalid."""
    from sgcldff.core.settings import MAX_WBC, MIN_WBC
    from sgcldff.counting.reference_intervals import read_reference

    require_all(
        lambda: require(
            wbc is None or MIN_WBC <= wbc <= MAX_WBC,
            f"--wbc is {wbc}: give 10^9/L, from {MIN_WBC:g} to {MAX_WBC:g} (7200 per µL are 7.2)",
        ),
        lambda: reference is not None and read_reference(reference),
    )


def require_cluster(text: str | None) -> None:
    """Raise `InputError` if a cluster file or a scheduler's address is invalid."""
    if text is not None:
        from sgcldff.cluster.config import cluster_of

        cluster_of(text)
