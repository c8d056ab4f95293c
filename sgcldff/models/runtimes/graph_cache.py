"""OpenVINO graphs, exported once per machine and kept in the user's cache.

Tracing a network requires torch, which takes more memory than everything else that reads slides. If torch is not loaded
yet, a child process therefore does the tracing. The key of a graph is made of the model's files, the code of the
networks, and the versions of torch, timm and OpenVINO.
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

MAX_GRAPHS = 30
"""Number of graphs that are kept, the most recently used; about 25 MB each."""
EXPORT_PATIENCE_S = 600.0
"""How long another process may take to export, s."""
GRAPH_FILE = "network.xml"
"""File of a graph, with its weights beside it."""


def cached_graph(graph: Graph) -> Path:
    """Return the file of a graph, which is exported if necessary.

    Raises
    ------
    InputError
        If the weights are damaged, OpenVINO cannot run the network, or the user's cache cannot be written.
    ServiceError
        If another process exports for longer than `EXPORT_PATIENCE_S`.
    """
    cache = user_cache() / "graphs"
    entry = cache / graph.key
    try:
        with locked(cache / f"{graph.task}.lock", EXPORT_PATIENCE_S):
            if not entry.exists():
                with TemporaryDirectory(dir=cache) as scratch:
                    _export(graph, Path(scratch) / GRAPH_FILE)
                    Path(scratch).rename(entry)
                    Path(scratch).mkdir()
            os.utime(entry)
            entries = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
            for oldest in entries[:-MAX_GRAPHS]:
                rmtree(oldest, ignore_errors=True)
    except SgcldffError:
        raise
    except OSError as error:
        raise InputError(f"{cache}: no graph can be stored there ({error}); set XDG_CACHE_HOME") from error
    return entry / GRAPH_FILE


def export_in_background(graph: Graph) -> None:
    """Start to export a graph that will be needed soon; errors are raised when it is requested.

    Nothing is done if torch is loaded: it would trace in this process and slow down everything else.
    """
    if "torch" not in sys.modules and not (user_cache() / "graphs" / graph.key).exists():
        ThreadPoolExecutor(1).submit(cached_graph, graph)


def _export(graph: Graph, target: Path) -> None:
    if "torch" in sys.modules:
        from sgcldff.models.runtimes.export import export_graph

        export_graph(graph, target)
        return
    arguments = [graph.model, graph.task, *map(str, graph.shape), str(target)]
    process = subprocess.run(
        [sys.executable, "-m", "sgcldff.models.runtimes.export", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise InputError(process.stderr.strip().splitlines()[-1])
