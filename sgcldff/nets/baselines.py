"""What users would pick instead, under the same interface: encoders and decoders of segmentation-models-pytorch.

The baselines see no prior. Their type is read from the encoder's deepest features by the library's own head.
"""

from typing import Any, cast

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
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    @property
    def embedding_width(self) -> int:
        """Channels of the encoder's deepest features."""
        return int(self.model.encoder.out_channels[-1])

    @property
    def cam_layer(self) -> nn.Module:
        """The decoder, whose features the segmentation is read from."""
        return cast(nn.Module, self.model.decoder)

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        """Map images (B, 3, H, W) in [0, 1] to a `Prediction`; its evidence is the predicted share of cell."""
        features = self.model.encoder((image - self.mean) / self.std)
        segmentation = self.model.segmentation_head(self.model.decoder(features))
        cell = 1 - segmentation.softmax(dim=1)[:, :1]
        evidence = interpolate(cell, scale_factor=0.25, mode="area")
        embedding = features[-1].mean(dim=(2, 3))
        return Prediction(segmentation, self.model.classification_head(features[-1]), evidence, embedding)


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
