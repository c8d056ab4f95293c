"""OpenVINO graphs: one task of a network for images of one size, exported once per machine, kept in the user's cache.

Tracing a network requires torch, which takes more memory than everything else that reads slides. If torch is not loaded
yet, a child process therefore does the tracing.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from sgcldff.core.errors import InputError, SgcldffError
from sgcldff.core.locations import user_cache
from sgcldff.core.locks import locked
from sgcldff.core.settings import digest
from sgcldff.models.checkpoint import SPEC_FILE, WEIGHTS_FILE
from sgcldff.slides.images import sha256_of

NETWORK_CODE = (*sorted((Path(__file__).parents[1] / "nets").glob("*.py")), Path(__file__).with_name("heads.py"))
"""Source files on which the outputs depend, besides the model's files."""
MAX_GRAPHS = 30
"""Number of graphs that are kept, the most recently used; about 25 MB each."""
EXPORT_PATIENCE_S = 600.0
"""How long another process may take to export, s."""
GRAPH_FILE = "network.xml"
"""File of a graph, with its weights beside it."""


class NetworkTask(StrEnum):
    """What a network is run for."""

    SEGMENT = "segment"
    """The label of every pixel."""
    CLASSIFY = "classify"
    """The type of the cell at the centre."""


@dataclass(frozen=True)
class Graph:
    """A saved model, run for one task on images of one size."""

    model: str
    """Folder of the model."""
    task: NetworkTask
    shape: tuple[int, int, int]
    """Images per batch, and their height and width, px; multiples of 32."""

    @cached_property
    def key(self) -> str:
        """Digest of everything that determines the graph."""
        model = Path(self.model)
        files = [sha256_of(path) for path in (model / SPEC_FILE, model / WEIGHTS_FILE, *NETWORK_CODE)]
        return digest((files, self.task, self.shape, version("torch"), version("timm"), version("openvino")))


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
