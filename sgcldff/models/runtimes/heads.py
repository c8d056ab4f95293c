"""The two tasks of a network on a slide, as modules."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from sgcldff.core.label_codes import NUCLEUS
from sgcldff.models.nets import Prediction


class Segment(nn.Module):
    """Outputs only labels, one byte per pixel."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor, prior: Tensor) -> Tensor:
        """Map uint8 (B, H, W, 3) and float32 (B, P, H, W), H and W multiples of 32, to uint8 (B, H, W)."""
        return likeliest(self.net(_to_unit_range(rgb), prior).segmentation)


def likeliest(logits: Tensor) -> Tensor:
    """Return the argmax, the first if tied, of three logits (B, 3, H, W) as uint8 (B, H, W), faster than torch does."""
    background, cytoplasm, nucleus = logits.unbind(dim=1)
    outside_nucleus = (cytoplasm > background).to(torch.uint8)
    return torch.where(nucleus > torch.maximum(background, cytoplasm), NUCLEUS, outside_nucleus)


class Classify(nn.Module):
    """Outputs only class probabilities, embedding and contribution."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor, prior: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map uint8 (B, H, W, 3) and float32 (B, P, H, W), H and W multiples of 32, to the parts of `Types`."""
        prediction: Prediction = self.net(_to_unit_range(rgb), prior)
        added = prediction.contribution
        where = torch.ones_like(prediction.evidence) if added is None else added
        return (
            prediction.cell_type.float().softmax(dim=1),
            prediction.embedding.float(),
            avg_pool2d(where.float(), 2)[:, 0],
        )


def _to_unit_range(rgb: Tensor) -> Tensor:
    return rgb.permute(0, 3, 1, 2).float() / 255
