"""What users would pick instead, under the same interface: encoders and decoders of segmentation-models-pytorch.

The baselines see no prior. Their type is read from the encoder's deepest features by the library's own head.
"""

from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sgcldff.nets.encoder import IMAGENET_MEAN, IMAGENET_STD
from sgcldff.nets.prediction import Prediction, register
from sgcldff.specs import ModelSpec


class Baseline(nn.Module):
    """An encoder-decoder with a class head, wrapped to give a `Prediction`."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.deepest = nn.Identity()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    @property
    def embedding_width(self) -> int:
        """Channels of the encoder's deepest features."""
        return int(self.model.encoder.out_channels[-1])

    @property
    def cam_layer(self) -> nn.Module:
        """The encoder's deepest features, which the type is told from."""
        return self.deepest

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        """Map images (B, 3, H, W) in [0, 1] to a `Prediction`; its evidence is the predicted share of cell."""
        features = self.model.encoder((image - self.mean) / self.std)
        segmentation = self.model.segmentation_head(self.model.decoder(features))
        cell = 1 - segmentation.softmax(dim=1)[:, :1]
        evidence = interpolate(cell, scale_factor=0.25, mode="area")
        deepest = self.deepest(features[-1])
        embedding = deepest.mean(dim=(2, 3))
        return Prediction(segmentation, self.model.classification_head(deepest), evidence, embedding)


def _parts(spec: ModelSpec) -> dict[str, Any]:
    return {
        "encoder_weights": None,
        "classes": 3,
        "aux_params": {"classes": len(spec.labels.classes), "dropout": 0.2},
    }


@register("unet")
def unet(spec: ModelSpec) -> nn.Module:
    """Build a U-Net (Ronneberger et al. 2015) on a timm EfficientNet-B0."""
    return Baseline(smp.Unet("tu-efficientnet_b0", **_parts(spec)))


@register("deeplabv3plus")
def deeplabv3plus(spec: ModelSpec) -> nn.Module:
    """Build a DeepLabV3+ (Chen et al. 2018) on a ResNet-50."""
    return Baseline(smp.DeepLabV3Plus("resnet50", **_parts(spec)))
