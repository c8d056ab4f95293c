"""A network run by OpenVINO on the processor.

A graph is compiled for a size of image, when that size is first seen, and for a fixed number of images. Fixed shapes
are faster than open ones, and small chunks stay in the processor's caches. Each thread works on chunks of its own, so
neither the number of threads nor the rest of a batch changes a result.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import Engine, ModelSpec, Precision
from sgcldff.models.out_of_distribution import Typicality
from sgcldff.models.runtimes.base import Labels, Types
from sgcldff.models.runtimes.graph import Graph, Question
from sgcldff.models.runtimes.graph_cache import exported, prefetch
from sgcldff.models.runtimes.openvino_library import import_openvino
from sgcldff.models.runtimes.padding import cropped, filled, whole

HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16"}
"""OpenVINO's names of precisions."""
CHUNKS = (4, 2, 1)
"""Images that may be run at a time."""
CHUNK_PX = 150_000
"""Pixels up to which more of them are faster, as measured with images of 128, 192 and 320 px."""

Answer = tuple[NDArray[Any], ...]
"""What a question is answered with, a row an image in each part."""


@dataclass(frozen=True)
class Compiled:
    """A question, compiled for chunks of one shape."""

    requests: Any
    """`openvino.AsyncInferQueue`, one request a thread."""
    chunk: int
    """Images that are run at a time."""

    def __call__(self, rgb: Rgb, prior: NDArray[np.float32]) -> Answer:
        """Answer for images of the shape that it was compiled for, any number of them."""
        answers: dict[int, Answer] = {}
        self.requests.set_callback(lambda request, place: answers.__setitem__(place, _answer(request)))
        for place, inputs in self._chunks(rgb, prior):
            self.requests.start_async(inputs, place, share_inputs=True)
        self.requests.wait_all()
        parts = zip(*(answers[place] for place in sorted(answers)), strict=True)
        return tuple(np.concatenate(part)[: len(rgb)] for part in parts)

    def _chunks(self, rgb: Rgb, prior: NDArray[np.float32]) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        for start in range(0, len(rgb), self.chunk):
            yield start, [whole(array[start : start + self.chunk], self.chunk) for array in (rgb, prior)]


def _answer(request: Any) -> Answer:
    return tuple(np.array(tensor.data) for tensor in request.output_tensors)


@dataclass(frozen=True, eq=False)
class OpenVinoRuntime:
    """A graph a question and size of image; what a question does not need is not part of its graph."""

    folder: str
    """Of the model."""
    spec: ModelSpec
    precision: Precision
    typicality: Typicality | None = None
    engine: Engine = Engine.OPENVINO
    _compiled: dict[tuple[Question, int, int], Compiled] = field(default_factory=dict, repr=False)

    def segment(self, rgb: Rgb, prior: NDArray[np.float32]) -> Labels:
        """Return labels; see `Runtime`."""
        (labels,) = self._ask(Question.SEGMENT, *filled(rgb, prior))
        return cropped(labels, *rgb.shape[1:3])

    def classify(self, rgb: Rgb, prior: NDArray[np.float32]) -> Types:
        """Tell types; see `Runtime`."""
        return Types(*self._ask(Question.CLASSIFY, *filled(rgb, prior)))

    def _ask(self, question: Question, rgb: Rgb, prior: NDArray[np.float32]) -> Answer:
        key = (question, *rgb.shape[1:3])
        if key not in self._compiled:
            self._compiled[key] = self._compile(*key)
        return self._compiled[key](rgb, prior)

    def __post_init__(self) -> None:
        side = self.spec.crop_px
        prefetch(self._graph(Question.CLASSIFY, side, side))

    def _graph(self, question: Question, height: int, width: int) -> Graph:
        chunk = next((count for count in CHUNKS if count * height * width <= CHUNK_PX), min(CHUNKS))
        return Graph(self.folder, question, (chunk, height, width))

    def _compile(self, question: Question, height: int, width: int) -> Compiled:
        asked = self._graph(question, height, width)
        graph, chunk = self._core.read_model(exported(asked)), asked.shape[0]
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": threads(),
            "NUM_STREAMS": threads(),
            "ENABLE_CPU_PINNING": False,
        }
        compiled = self._core.compile_model(graph, "CPU", settings)
        return Compiled(self._openvino.AsyncInferQueue(compiled, threads()), chunk)

    @cached_property
    def _openvino(self) -> Any:
        return import_openvino()

    @cached_property
    def _core(self) -> Any:
        return self._openvino.Core()


def threads() -> int:
    """Count the threads that this process may use: `OMP_NUM_THREADS`, or a thread a core."""
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if stated.isdigit() and int(stated):
        return int(stated)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
