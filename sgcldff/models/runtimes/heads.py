"""The two questions that are put to a network on a slide, as modules."""

import torch
from torch import Tensor, nn

from sgcldff.models.nets import Prediction


class Segment(nn.Module):
    """Labels alone, one byte a pixel; what tells the type is not asked."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor, prior: Tensor) -> Tensor:
        """Map uint8 (B, H, W, 3) and float32 (B, P, H, W), H and W multiples of 32, to uint8 (B, H, W)."""
        return likeliest(self.net(_unit(rgb), prior).segmentation)


def likeliest(logits: Tensor) -> Tensor:
    """Return the first of the largest of three logits (B, 3, H, W), uint8 (B, H, W); over so few, argmax is slow."""
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
