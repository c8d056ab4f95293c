"""What can be known to be wrong with a command before anything is started.

No server, no database and no library that takes seconds to load is needed here; `tests/flows/test_checks.py` holds
that. Everything is read by the functions that the commands themselves use.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgcldff.core.disks import require_writable
from sgcldff.core.errors import InputError, MissingInputError, NothingFoundError
from sgcldff.core.locations import Address, is_remote
from sgcldff.core.settings import NetSpec, PriorSpec, require
from sgcldff.data.catalog import require_catalog
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from flows.settings import Settings
    from sgcldff.data.adapters import Source


def require_all(*checks: Callable[[], object]) -> None:
    """Run all checks, and say at once what is wrong.

    Raises
    ------
    InputError
        If anything is: the error itself, or one that lists several.
    """
    wrong = list[InputError]()
    for check in checks:
        try:
            check()
        except InputError as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise InputError("\n- ".join([f"{len(wrong)} inputs are wrong:", *map(str, wrong)]))


def require_there(path: Path, what: str) -> None:
    """Raise `MissingInputError` unless a file or folder is there; `what` says what it should be."""
    if not path.exists():
        raise MissingInputError(f"{path}: no such {what}; look at its name and at where you are")


def require_report(path: Path | None) -> None:
    """Raise `InputError` if a report is to be written where it cannot be."""
    if path is not None:
        require(not path.is_dir(), f"{path}: is a folder; name a file")
        require_writable(path.parent)


def require_prepared(workspace: Path) -> None:
    """Raise `InputError` unless a workspace can be written to and has a catalog."""
    require_writable(workspace)
    require_catalog(Workspace(str(workspace)).catalog)


def require_parts(settings: "Settings") -> None:
    """Raise `InputError` if settings name a prior or a network that is not there.

    Those of the defaults are, and are not looked up: networks come with torch.
    """
    if settings.prior.names != PriorSpec().names:
        from sgcldff.saliency.priors.registry import factory

        for name in settings.prior.names:
            factory(name)
    if settings.net.name != NetSpec().name:
        from sgcldff.models.nets import builder

        builder(settings.net.name)


def require_sources(folders: Iterable[str], adapter: str, mpp: float | None) -> None:
    """Raise `InputError` if a data set is missing, or its tables cannot be read; stores are not asked."""
    from sgcldff.data.adapters import AUTO, Source
    from sgcldff.data.adapters import adapter as find_adapter

    if adapter != AUTO:
        find_adapter(adapter)
    local = (Source(adapter, folder, mpp) for folder in folders if not is_remote(folder))
    require_all(*(partial(_begin_scan, source) for source in local))


def _begin_scan(source: "Source") -> None:
    """Begin to read a data set: tables come before the first image, and images are not opened."""
    for found in source.resolved():
        next(iter(found.scan()), None)


def require_slides(inputs: Sequence[str], mpp: float | None = None) -> None:
    """Raise `InputError` if slides are missing, or lists of slides cannot be read; stores are not asked."""
    from sgcldff.slides import find_slides

    local = [text for text in inputs if not is_remote(text)]
    try:
        if local:
            find_slides(local, mpp)
    except NothingFoundError:
        if len(local) == len(inputs):
            raise


def require_any_slide(inputs: Sequence[str]) -> None:
    """Raise `InputError` if none of the inputs is there, or lists of slides cannot be read; stores are not asked."""
    wrong = list[InputError]()
    for text in inputs:
        try:
            require_slides([text])
        except InputError as error:
            wrong.append(error)
    if len(wrong) == len(inputs):
        raise wrong[0]


def require_known_model(reference: str | None, workspace: Path) -> tuple[str, ...] | None:
    """Refuse a model that is known not to be there; give its classes where they are known without MLflow.

    Raises
    ------
    InputError
        If there is no such model.
    """
    from sgcldff.models.names import models_in_registry, require_model
    from sgcldff.models.released import RELEASED

    address = Address.parse(Workspace(str(workspace)).tracking_uri)
    if reference is None:
        known = models_in_registry(address)
        if known is None or any("champion" in model.aliases for model in known.values()):
            return None
    spec = require_model(reference or RELEASED, address)
    return spec.labels.classes if spec else None


def require_counting(until: str | None, manual: Path | None, model: str | None, workspace: Path) -> None:
    """Raise `InputError` if the goal of a count, or the table of manual counts, is not understood."""
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


def require_cluster(text: str | None) -> None:
    """Raise `InputError` if a cluster file, or a scheduler's address, is not understood."""
    if text is not None:
        from sgcldff.cluster.config import cluster_of

        cluster_of(text)
