"""The two questions that are put to a network on a slide, as modules, and images brought to sides it can take."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgcldff.images import Rgb
from sgcldff.model import STRIDE
from sgcldff.nets import Prediction
from sgcldff.runtimes.runtime import Labels


class Segment(nn.Module):
    """Labels alone, one byte a pixel; what tells the type is not asked."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor, prior: Tensor) -> Tensor:
        """Map uint8 (B, H, W, 3) and float32 (B, P, H, W), H and W multiples of 32, to uint8 (B, H, W)."""
        return likeliest(self.net(_unit(rgb), prior).segmentation)


def likeliest(logits: Tensor) -> Tensor:
    """Give the first of the largest of three logits (B, 3, H, W), uint8 (B, H, W); over so few, argmax is slow."""
    background, cytoplasm, nucleus = logits.unbind(dim=1)
    outer = (cytoplasm > background).to(torch.uint8)
    return torch.where(nucleus > torch.maximum(background, cytoplasm), 2, outer)


class Classify(nn.Module):
    """The type alone, and what it is told from."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Map uint8 (B, H, W, 3) and float32 (B, P, H, W), H and W multiples of 32, to float32 (B, C) and (B, D)."""
        told: Prediction = self.net(_unit(rgb), prior)
        return told.cell_type.float().softmax(dim=1), told.embedding.float()


def _unit(rgb: Tensor) -> Tensor:
    return rgb.permute(0, 3, 1, 2).float() / 255


def filled(rgb: Rgb, prior: NDArray[np.float32]) -> tuple[Rgb, NDArray[np.float32]]:
    """Enlarge images and priors to multiples of `STRIDE` px, as `sgcldff.model.fill` does."""
    rows, columns = (_margins(side) for side in rgb.shape[1:3])
    if not any(rows + columns):
        return np.ascontiguousarray(rgb), np.ascontiguousarray(prior, np.float32)
    wide = np.pad(rgb, ((0, 0), rows, columns, (0, 0)), mode="edge")
    return wide, np.pad(prior.astype(np.float32, copy=False), ((0, 0), (0, 0), rows, columns), mode="edge")


def cropped(labels: Labels, height: int, width: int) -> Labels:
    """Undo `filled` on labels (B, H, W)."""
    (top, _), (left, _) = _margins(height), _margins(width)
    return np.ascontiguousarray(labels[:, top : top + height, left : left + width])


def _margins(length: int) -> tuple[int, int]:
    missing = -length % STRIDE
    return missing // 2, missing - missing // 2
