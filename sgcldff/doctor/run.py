"""All checks, one after the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sgcldff.doctor import exposure, folders, hardware, packages, released_model, servers
from sgcldff.doctor.check import Check, tried

AGAIN = "install the locked packages again (make install)"
ALLOW = "allow this user to look there, or name another folder"


@dataclass(frozen=True)
class Setup:
    """What is looked at."""

    workspace: Path
    cluster: str | None = None
    """Address of a Dask scheduler."""


def examine(setup: Setup) -> Iterator[Check]:
    """Make all checks; none of them changes anything, and none of them raises."""
    for name, look, remedy in _looks(setup):
        yield tried(name, look, remedy)


def _looks(setup: Setup) -> list[tuple[str, Callable[[], Check], str]]:
    """List the checks: name, function, and what to do where the function itself fails."""
    place = setup.workspace
    looks: list[tuple[str, Callable[[], Check], str]] = [
        ("python", packages.python, AGAIN),
        ("packages", packages.packages, AGAIN),
        ("slides", hardware.slide_library, "install openslide-bin again, or the system's OpenSlide library"),
        ("gpu", hardware.gpu, AGAIN),
        ("processor", hardware.processor, AGAIN),
        ("memory", hardware.memory, AGAIN),
        ("released model", released_model.released_model, "install sgcldff again, with its folder models/"),
        ("workspace", partial(folders.workspace, place), ALLOW),
        ("permissions", partial(folders.doors, place), ALLOW),
        ("disk", partial(folders.disk, place), ALLOW),
        ("slide cache", folders.cache, "correct SGCLDFF_CACHE and SGCLDFF_CACHE_GB"),
        ("leftovers", partial(folders.leftovers, place), ALLOW),
        ("prefect", servers.prefect, "correct PREFECT_API_URL"),
        ("mlflow", servers.mlflow, "correct MLFLOW_TRACKING_URI"),
        ("listening", servers.listening, AGAIN),
        ("stale servers", servers.stale, AGAIN),
        ("ports", servers.ports, "look at the network of this machine"),
        ("safety", exposure.settings, AGAIN),
    ]
    dask = [("dask", partial(servers.dask, setup.cluster), AGAIN)] if setup.cluster else []
    return [*looks, *dask]
