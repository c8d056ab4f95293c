"""Checks of this machine, its packages and the configured servers, with remedies for what they find."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sgcldff.core.redaction import redacted
from sgcldff.doctor import folders, hardware, packages, servers
from sgcldff.doctor.check import Check, State, failed

__all__ = ["Check", "State", "examine"]

BROKEN = (ImportError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError)
"""Errors of libraries that are missing, incompletely installed, or of an unexpected version."""
REINSTALL = "install the locked packages again (make install)"
ACCESS = "give this user access, or name another folder"


def examine(folder: Path, cluster: str | None = None) -> Iterator[Check]:
    """Check the machine, a workspace and, if its address is given, a Dask scheduler; nothing is changed or raised."""
    checks: list[tuple[str, Callable[[], Check], str]] = [  # with the remedy if the check itself raises
        ("python", packages.python, REINSTALL),
        ("packages", packages.packages, REINSTALL),
        ("slides", hardware.slide_library, "install openslide-bin again, or the system's OpenSlide library"),
        ("gpu", hardware.gpu, REINSTALL),
        ("processor", hardware.processor, REINSTALL),
        ("memory", hardware.memory, REINSTALL),
        ("released model", packages.released_model, "install sgcldff again, with its folder models/"),
        ("workspace", partial(folders.workspace, folder), ACCESS),
        ("permissions", partial(folders.permissions, folder), ACCESS),
        ("disk", partial(folders.disk, folder), ACCESS),
        ("slide cache", folders.cache, "correct SGCLDFF_CACHE and SGCLDFF_CACHE_GB"),
        ("leftovers", partial(folders.leftovers, folder), ACCESS),
        ("prefect", servers.prefect, "correct PREFECT_API_URL"),
        ("mlflow", servers.mlflow, "correct MLFLOW_TRACKING_URI"),
        ("listening", servers.listening, REINSTALL),
        ("stale servers", servers.stale, REINSTALL),
        ("ports", servers.ports, "check the network configuration of this machine"),
        ("safety", servers.unsafe_variables, REINSTALL),
    ]
    if cluster:
        checks.append(("dask", partial(servers.dask, cluster), REINSTALL))
    for name, check, remedy in checks:
        try:
            yield check()
        except BROKEN as error:
            yield failed(name, f"{type(error).__name__}: {redacted(str(error))}", remedy)
