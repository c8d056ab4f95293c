"""What users would pick instead, under the same interface, from segmentation-models-pytorch and timm.

No baseline feeds the prior to its layers. Outlining ones tell the type from the encoder's deepest features by the
library's own head; the others tell the type alone, and take the prior for outlines.
"""

from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sgcldff.core.settings import ModelSpec
from sgcldff.models.nets.base import Prediction, register
from sgcldff.models.nets.encoder import Normalise
from sgcldff.models.nets.pretrained import initialise

SWIN = "swin_tiny_patch4_window7_224"
DROPOUT = 0.2
"""Before the types are told, as in SG-CLDFF."""
CELL_PRIOR, NUCLEUS_PRIOR = 0.2, 0.5
"""Mean priors above which a pixel is called cell and nucleus where no outline is learned; best overlap of RAMF with the
masks of stained smears."""
STEEPNESS = 20.0
"""Logits a unit of the prior."""


class Baseline(nn.Module):
    """An encoder-decoder with a class head, wrapped to give a `Prediction`."""

    def __init__(self, model: Any, backbone: str) -> None:
        super().__init__()
        self.model = model
        self.normalise = Normalise(backbone)
        self.deepest = nn.Identity()

    @property
    def embedding_width(self) -> int:
        """Channels of the encoder's deepest features."""
        return int(self.model.encoder.out_channels[-1])

    @property
    def cam_layer(self) -> nn.Module:
        """The encoder's deepest features, which the type is told from."""
        return self.deepest

    @property
    def type_layer(self) -> nn.Linear:
        """The linear layer of the library's head, which averages and drops out before it."""
        return next(layer for layer in self.model.classification_head if isinstance(layer, nn.Linear))

    @property
    def outlines(self) -> bool:
        """True: cell and nucleus are outlined."""
        return True

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        """Map images (B, 3, H, W) in [0, 1] to a `Prediction`; its evidence is the predicted share of cell."""
        features = self.model.encoder(self.normalise(image))
        segmentation = self.model.segmentation_head(self.model.decoder(features))
        cell = 1 - segmentation.softmax(dim=1)[:, :1]
        evidence = interpolate(cell, scale_factor=0.25, mode="area")
        deepest = self.deepest(features[-1])
        embedding = deepest.mean(dim=(2, 3))
        return Prediction(segmentation, self.model.classification_head(deepest), evidence, embedding)


class TypeOnly(nn.Module):
    """A classifier; what it calls cell and nucleus is the prior's doing, so that there is a cell to type at all."""

    def __init__(self, encoder: Any, backbone: str, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalise = Normalise(backbone)
        self.deepest = nn.Identity()
        self.tell = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(self.embedding_width, classes))

    @property
    def embedding_width(self) -> int:
        """Channels of the deepest features."""
        return int(self.encoder.num_features)

    @property
    def cam_layer(self) -> nn.Module:
        """The deepest features, which the type is told from."""
        return self.deepest

    @property
    def type_layer(self) -> nn.Linear:
        """The linear layer behind the average."""
        return cast(nn.Linear, self.tell[1])

    @property
    def outlines(self) -> bool:
        """False: no outline is learned."""
        return False

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        """Map images (B, 3, H, W) and priors (B, P, H, W), both in [0, 1], to a `Prediction`.

        The type is read from everywhere alike, so the evidence is 1 everywhere.
        """
        deepest = self.deepest(self.encoder.forward_features(self.normalise(image)))
        embedding = deepest.mean(dim=(2, 3))
        evidence = prior.new_ones(len(prior), 1, prior.shape[2] // 4, prior.shape[3] // 4)
        return Prediction(parts_of(image, prior), self.tell(embedding), evidence, embedding)


def parts_of(image: Tensor, prior: Tensor) -> Tensor:
    """Call a pixel background, cytoplasm or nucleus by how salient it is: logits (B, 3, H, W) of priors (B, P, H, W).

    Adjacent-category logits (Agresti, Categorical Data Analysis, 2013) with fixed thresholds: the more salient, the
    rather cell, and the rather nucleus, without which an object is no cell. Of the image (B, 3, H, W) only the shape is
    used: a graph that never reads it would lose it as an input.
    """
    mean = prior.mean(dim=1)
    cytoplasm = STEEPNESS * (mean - CELL_PRIOR)
    nucleus = cytoplasm + STEEPNESS * (mean - NUCLEUS_PRIOR)
    return torch.stack((torch.zeros_like(image[:, 0]), cytoplasm, nucleus), dim=1)


def _outlining(spec: ModelSpec, architecture: str, backbone: str, encoder: dict[str, Any] | None = None) -> nn.Module:
    import segmentation_models_pytorch as smp  # only baselines are worth the time that it takes

    heads = {"classes": 3, "aux_params": {"classes": len(spec.labels.classes), "dropout": DROPOUT}}
    model = getattr(smp, architecture)(f"tu-{backbone}", encoder_weights=None, **heads, **(encoder or {}))
    initialise(model.encoder.model, backbone, spec.net.pretrained)
    return Baseline(model, backbone)


def _type_only(spec: ModelSpec, backbone: str) -> nn.Module:
    encoder = timm.create_model(backbone, num_classes=0)
    initialise(encoder, backbone, spec.net.pretrained)
    return TypeOnly(encoder, backbone, len(spec.labels.classes))


@register("unet")
def unet(spec: ModelSpec) -> nn.Module:
    """Build a U-Net (Ronneberger et al., MICCAI 2015) on the backbone of the spec."""
    return _outlining(spec, "Unet", spec.net.backbone)


@register("deeplabv3plus")
def deeplabv3plus(spec: ModelSpec) -> nn.Module:
    """Build a DeepLabV3+ (Chen et al., ECCV 2018) on the backbone of the spec."""
    return _outlining(spec, "DeepLabV3Plus", spec.net.backbone)


@register("swin-unet", backbone=SWIN)
def swin_unet(spec: ModelSpec) -> nn.Module:
    """Build a U-Net decoder on a Swin-T (Liu et al., ICCV 2021) that takes any size.

    Unlike Swin-Unet (Cao et al., ECCV Workshops 2022), whose decoder is made of Swin blocks too, it is a hybrid.
    """
    return _outlining(spec, "Unet", SWIN, {"strict_img_size": False})


@register("resnet50", backbone="resnet50")
def resnet50(spec: ModelSpec) -> nn.Module:
    """Build a ResNet-50 (He et al., CVPR 2016) that classifies cells without outlining them."""
    return _type_only(spec, "resnet50")


@register("efficientnet")
def efficientnet(spec: ModelSpec) -> nn.Module:
    """Build the backbone of the spec (EfficientNet: Tan and Le, ICML 2019) to classify cells without outlining them."""
    return _type_only(spec, spec.net.backbone)
