"""Inference by OpenVINO on the processor.

A graph is compiled when an image size is first used, for a fixed number of images. Fixed shapes are faster than dynamic
ones, and small chunks stay in the processor's caches. Each thread processes its own chunks, so neither the number of
threads nor the rest of a batch changes a result.
"""

import os
import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import Engine, ModelSpec, Precision
from sgcldff.models.out_of_distribution import Typicality
from sgcldff.models.runtimes.base import Labels, Types
from sgcldff.models.runtimes.graph import Graph, NetworkTask, cached_graph, export_in_background
from sgcldff.models.runtimes.openvino_library import import_openvino
from sgcldff.models.runtimes.padding import cropped, padded_batch, padded_images

HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16"}
"""OpenVINO's names of precisions."""
CHUNKS = (4, 2, 1)
"""Possible numbers of images per chunk."""
CHUNK_PX = 150_000
"""Pixels per chunk up to which larger chunks are faster, measured with images of 128, 192 and 320 px."""

Outputs = tuple[NDArray[Any], ...]
"""The network's outputs, each with one row per image."""


@dataclass(frozen=True)
class CompiledGraph:
    """A graph, compiled for chunks of one shape."""

    requests: Any
    """`openvino.AsyncInferQueue`, one request per thread."""
    chunk: int
    """Images per chunk."""

    def __call__(self, rgb: Rgb, prior: NDArray[np.float32]) -> Outputs:
        """Process any number of images of the shape for which the graph was compiled."""
        outputs: dict[int, Outputs] = {}

        def keep(request: Any, start: int) -> None:
            outputs[start] = tuple(np.array(tensor.data) for tensor in request.output_tensors)

        self.requests.set_callback(keep)
        for start in range(0, len(rgb), self.chunk):
            inputs = [padded_batch(array[start : start + self.chunk], self.chunk) for array in (rgb, prior)]
            self.requests.start_async(inputs, start, share_inputs=True)
        self.requests.wait_all()
        parts = zip(*(outputs[start] for start in sorted(outputs)), strict=True)
        return tuple(np.concatenate(part)[: len(rgb)] for part in parts)


@dataclass(frozen=True, eq=False)
class OpenVinoRuntime:
    """One graph per task and image size, which computes only the outputs of that task."""

    folder: str
    """Folder of the model."""
    spec: ModelSpec
    precision: Precision
    typicality: Typicality | None = None
    engine: Engine = Engine.OPENVINO
    _compiled: dict[tuple[NetworkTask, int, int], CompiledGraph] = field(default_factory=dict, repr=False)

    def segment(self, rgb: Rgb, prior: NDArray[np.float32]) -> Labels:
        """Return labels; see `Runtime`."""
        (labels,) = self._run(NetworkTask.SEGMENT, *padded_images(rgb, prior))
        return cropped(labels, *rgb.shape[1:3])

    def classify(self, rgb: Rgb, prior: NDArray[np.float32]) -> Types:
        """Classify cells; see `Runtime`."""
        return Types(*self._run(NetworkTask.CLASSIFY, *padded_images(rgb, prior)))

    def _run(self, task: NetworkTask, rgb: Rgb, prior: NDArray[np.float32]) -> Outputs:
        key = (task, *rgb.shape[1:3])
        if key not in self._compiled:
            self._compiled[key] = self._compile(*key)
        return self._compiled[key](rgb, prior)

    def __post_init__(self) -> None:
        side = self.spec.crop_px
        export_in_background(self._graph(NetworkTask.CLASSIFY, side, side))

    def _graph(self, task: NetworkTask, height: int, width: int) -> Graph:
        chunk = next((count for count in CHUNKS if count * height * width <= CHUNK_PX), min(CHUNKS))
        return Graph(self.folder, task, (chunk, height, width))

    def _compile(self, task: NetworkTask, height: int, width: int) -> CompiledGraph:
        graph = self._graph(task, height, width)
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": thread_count(),
            "NUM_STREAMS": thread_count(),
            "ENABLE_CPU_PINNING": False,
        }
        compiled = self._core.compile_model(self._core.read_model(cached_graph(graph)), "CPU", settings)
        return CompiledGraph(self._openvino.AsyncInferQueue(compiled, thread_count()), graph.shape[0])

    @cached_property
    def _openvino(self) -> Any:
        return import_openvino()

    @cached_property
    def _core(self) -> Any:
        return self._openvino.Core()


def thread_count() -> int:
    """Return the number of threads that this process may use: `OMP_NUM_THREADS`, or one per core."""
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if limit.isdigit() and int(limit):
        return int(limit)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
