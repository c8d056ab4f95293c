"""A network run by torch, on a GPU or on the processor."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgcldff.images import Rgb
from sgcldff.model import Model
from sgcldff.runtimes.filling import cropped, filled
from sgcldff.runtimes.heads import Classify, Segment
from sgcldff.runtimes.runtime import Labels
from sgcldff.specs import Engine, ModelSpec, Precision

DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


@dataclass(frozen=True)
class TorchRuntime:
    """Channels last, autocast where fewer bits are asked for; images reach the device as bytes, labels leave it so."""

    model: Model
    precision: Precision
    engine: Engine = Engine.TORCH

    @property
    def spec(self) -> ModelSpec:
        """What the network was trained to see and to tell."""
        return self.model.spec

    def segment(self, rgb: Rgb, prior: NDArray[np.float32]) -> Labels:
        """Give labels; see `Runtime`."""
        return cropped(self._ask(self._segment, *filled(rgb, prior)), *rgb.shape[1:3])

    def classify(self, rgb: Rgb, prior: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give probabilities of the type; see `Runtime`."""
        return self._ask(self._classify, *filled(rgb, prior))

    @cached_property
    def _segment(self) -> nn.Module:
        return Segment(self.model.net).eval()

    @cached_property
    def _classify(self) -> nn.Module:
        return Classify(self.model.net).eval()

    @torch.inference_mode()
    def _ask(self, module: nn.Module, rgb: Rgb, prior: NDArray[np.float32]) -> NDArray[Any]:
        kind, fewer_bits = self.model.device.type, self.precision is not Precision.FP32
        with torch.autocast(kind, DTYPES[self.precision], enabled=fewer_bits):
            answer: Tensor = module(self._send(rgb), self._send(prior))
        return np.asarray(answer.cpu().numpy())

    def _send(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.model.device.type != "cuda":
            return tensor.to(self.model.device)
        return tensor.pin_memory().to(self.model.device, non_blocking=True)
