"""Inference by torch, on a GPU or on the processor."""

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
from sgcldff.models.runtimes.padding import cropped, padded_batch, padded_images

COMPILED_BATCH = 8
"""Fixed batch size of a compiled network, which would be compiled again for every other size."""
DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


@dataclass(frozen=True)
class TorchRuntime:
    """Uses channels last, autocast for fewer bits, and bytes to transfer images and labels to and from the device.

    With the engine `compiled`, the network is compiled when an image size is first used; on a GPU its kernels are then
    recorded as a CUDA graph and replayed.
    """

    model: Model
    precision: Precision
    typicality: Typicality | None = None
    engine: Engine = Engine.TORCH

    @property
    def spec(self) -> ModelSpec:
        """The spec with which the network was trained."""
        return self.model.spec

    def segment(self, rgb: Rgb, prior: NDArray[np.float32]) -> Labels:
        """Return labels; see `Runtime`."""
        (labels,) = self._run(self._segment, *padded_images(rgb, prior))
        return cropped(labels, *rgb.shape[1:3])

    def classify(self, rgb: Rgb, prior: NDArray[np.float32]) -> Types:
        """Classify cells; see `Runtime`."""
        return Types(*self._run(self._classify, *padded_images(rgb, prior)))

    @cached_property
    def _segment(self) -> nn.Module:
        return self._prepared(Segment(self.model.net))

    @cached_property
    def _classify(self) -> nn.Module:
        return self._prepared(Classify(self.model.net))

    def _prepared(self, module: nn.Module) -> nn.Module:
        module.eval()
        if self.engine is not Engine.COMPILED:
            return module
        mode = "reduce-overhead" if self.model.device.type == "cuda" else "default"
        return cast(nn.Module, torch.compile(module, dynamic=False, mode=mode))

    def _run(self, module: nn.Module, rgb: Rgb, prior: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        if self.engine is not Engine.COMPILED:
            return self._run_batch(module, rgb, prior)
        chunks = (slice(start, start + COMPILED_BATCH) for start in range(0, len(rgb), COMPILED_BATCH))
        parts = [
            self._run_batch(module, *(padded_batch(images[chunk], COMPILED_BATCH) for images in (rgb, prior)))
            for chunk in chunks
        ]
        return tuple(np.concatenate(part)[: len(rgb)] for part in zip(*parts, strict=True))

    @torch.inference_mode()
    def _run_batch(self, module: nn.Module, rgb: Rgb, prior: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        device, fewer_bits = self.model.device.type, self.precision is not Precision.FP32
        with torch.autocast(device, DTYPES[self.precision], enabled=fewer_bits):
            result = module(self._to_device(rgb), self._to_device(prior))
        outputs: tuple[Tensor, ...] = result if isinstance(result, tuple) else (result,)
        return tuple(np.asarray(output.cpu().numpy()) for output in outputs)

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.model.device.type != "cuda":
            return tensor.to(self.model.device)
        return tensor.pin_memory().to(self.model.device, non_blocking=True)
