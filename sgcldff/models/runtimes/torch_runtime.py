"""A network run by torch, on a GPU or on the processor."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import Engine, ModelSpec, Precision
from sgcldff.models.model import Model
from sgcldff.models.out_of_distribution import Typicality
from sgcldff.models.runtimes.base import Labels, Types
from sgcldff.models.runtimes.heads import Classify, Segment
from sgcldff.models.runtimes.padding import cropped, filled, whole

COMPILED_BATCH = 8
"""Images that a compiled network takes at a time: every other number would be compiled anew."""
DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


@dataclass(frozen=True)
class TorchRuntime:
    """Channels last, autocast where fewer bits are asked for; images reach the device as bytes, labels leave it so.

    With the engine `compiled` every size of image is compiled when it is first seen; on a GPU its kernels are then
    recorded as a CUDA graph and replayed.
    """

    model: Model
    precision: Precision
    typicality: Typicality | None = None
    engine: Engine = Engine.TORCH

    @property
    def spec(self) -> ModelSpec:
        """What the network was trained to see and to tell."""
        return self.model.spec

    def segment(self, rgb: Rgb, prior: NDArray[np.float32]) -> Labels:
        """Return labels; see `Runtime`."""
        (labels,) = self._ask(self._segment, *filled(rgb, prior))
        return cropped(labels, *rgb.shape[1:3])

    def classify(self, rgb: Rgb, prior: NDArray[np.float32]) -> Types:
        """Tell types; see `Runtime`."""
        return Types(*self._ask(self._classify, *filled(rgb, prior)))

    @cached_property
    def _segment(self) -> nn.Module:
        return self._prepared(Segment(self.model.net))

    @cached_property
    def _classify(self) -> nn.Module:
        return self._prepared(Classify(self.model.net))

    def _prepared(self, question: nn.Module) -> nn.Module:
        question.eval()
        if self.engine is not Engine.COMPILED:
            return question
        mode = "reduce-overhead" if self.model.device.type == "cuda" else "default"
        return cast(nn.Module, torch.compile(question, dynamic=False, mode=mode))

    def _ask(self, module: nn.Module, rgb: Rgb, prior: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        if self.engine is not Engine.COMPILED:
            return self._answer(module, rgb, prior)
        parts = [
            self._answer(module, *(whole(images[at : at + COMPILED_BATCH], COMPILED_BATCH) for images in (rgb, prior)))
            for at in range(0, len(rgb), COMPILED_BATCH)
        ]
        return tuple(np.concatenate(part)[: len(rgb)] for part in zip(*parts, strict=True))

    @torch.inference_mode()
    def _answer(self, module: nn.Module, rgb: Rgb, prior: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        kind, fewer_bits = self.model.device.type, self.precision is not Precision.FP32
        with torch.autocast(kind, DTYPES[self.precision], enabled=fewer_bits):
            answer = module(self._send(rgb), self._send(prior))
        answers: tuple[Tensor, ...] = answer if isinstance(answer, tuple) else (answer,)
        return tuple(np.asarray(part.cpu().numpy()) for part in answers)

    def _send(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.model.device.type != "cuda":
            return tensor.to(self.model.device)
        return tensor.pin_memory().to(self.model.device, non_blocking=True)
