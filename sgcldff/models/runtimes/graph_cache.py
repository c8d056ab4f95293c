"""Graphs of OpenVINO, exported once a machine and kept in the user's cache.

Tracing a network takes torch, and with it more memory than all else that reads slides. Where torch is not in use
already a child process traces, so that who reads slides does without. A graph is found again by what it was made of:
the model's files, the code of the networks, and the versions of torch and OpenVINO.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from sgcldff.core.errors import InputError, SgcldffError
from sgcldff.core.locations import user_cache
from sgcldff.core.locks import locked
from sgcldff.models.runtimes.graph import Graph

KEPT = 30
"""Graphs that are kept: those used last, of about 25 MB each."""
PATIENCE_S = 600.0
"""How long another process may take to export, s."""
NETWORK = "network.xml"
"""File of a graph; its weights lie beside it."""


def exported(graph: Graph) -> Path:
    """Return the file of a graph, which is made if it is not there.

    Raises
    ------
    InputError
        If the weights are damaged, OpenVINO cannot run the network, or the user's cache cannot be written.
    ServiceError
        If another process exports for longer than `PATIENCE_S`.
    """
    cache = user_cache() / "graphs"
    kept = cache / graph.key
    try:
        with locked(cache / f"{graph.question}.lock", PATIENCE_S):
            if not kept.exists():
                with TemporaryDirectory(dir=cache) as scratch:
                    _export(graph, Path(scratch) / NETWORK)
                    Path(scratch).rename(kept)
                    Path(scratch).mkdir()
            os.utime(kept)
            _forget(cache)
    except SgcldffError:
        raise
    except OSError as error:
        raise InputError(f"{cache}: no graph can be kept there ({error}); set XDG_CACHE_HOME") from error
    return kept / NETWORK


def prefetch(graph: Graph) -> None:
    """Begin to export a graph that will be asked for, beside what else is done; it is told when it is asked for.

    Nothing is done where torch is in use: it would trace in this process, and in the way of what else is done.
    """
    if "torch" not in sys.modules and not (user_cache() / "graphs" / graph.key).exists():
        ThreadPoolExecutor(1).submit(exported, graph)


def _forget(cache: Path) -> None:
    by_use = sorted((place for place in cache.iterdir() if place.is_dir()), key=lambda place: -place.stat().st_mtime)
    for place in by_use[KEPT:]:
        rmtree(place, ignore_errors=True)


def _export(graph: Graph, place: Path) -> None:
    if "torch" in sys.modules:
        from sgcldff.models.runtimes.export import export

        export(graph, place)
        return
    command = (
        sys.executable,
        "-m",
        "sgcldff.models.runtimes.export",
        graph.model,
        graph.question,
        *map(str, graph.shape),
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run((*command, str(place)), env=environment, capture_output=True, text=True)
    if done.returncode:
        raise InputError(done.stderr.strip().splitlines()[-1])
