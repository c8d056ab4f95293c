"""Results in an object store: written to a folder of this machine, and copied from there slide by slide.

The folder stays, so that a killed run resumes, and only what has changed is copied again. A slide's `summary.json` is
copied last: whoever waits for it finds the rest.
"""

from pathlib import Path

from sgcldff.core.errors import ServiceError
from sgcldff.core.locations import is_remote, user_cache
from sgcldff.core.locks import locked
from sgcldff.core.settings import digest
from sgcldff.results.batch.summary import SUMMARY


def local_results(out: str | Path) -> Path:
    """Return the folder of this machine into which results are written: `out` itself, or one in the cache for a URL."""
    return user_cache() / "results" / digest((str(out),)) if is_remote(str(out)) else Path(out)


def deliver(out: str, part: str = "") -> None:
    """Copy the results of a slide, or else all of them, to the store; nothing is done if `out` is a folder.

    Raises
    ------
    ServiceError, InputError
        If the store fails or refuses; the results are kept, and copied by the next run.
    """
    if not is_remote(out):
        return
    from sgcldff.slides.remote.upload import upload

    folder = local_results(out)
    try:
        with locked(folder / "delivery.lock"):
            upload(folder, out, part, SUMMARY)
    except ServiceError as error:
        raise ServiceError(f"{error}; the results are kept in {folder} and copied by the next run") from error
