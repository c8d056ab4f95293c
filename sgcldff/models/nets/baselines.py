"""Common alternatives to SG-CLDFF under the same interface, from segmentation-models-pytorch and timm.

No baseline feeds the prior to its layers. Encoder-decoders classify the cell from the encoder's deepest features with
the library's own head; the others only classify, and derive outlines from the prior.
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
"""Before the classifier, as in SG-CLDFF."""
CELL_PRIOR, NUCLEUS_PRIOR = 0.2, 0.5
"""Mean priors above which a pixel counts as cell and as nucleus if no outline is learned; chosen for the best overlap
of RAMF with the masks of stained smears."""
STEEPNESS = 20.0
"""Logits per unit of the prior."""


class Baseline(nn.Module):
    """An encoder-decoder with a class head, wrapped to return a `Prediction`."""

    outlines = True

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
        """The encoder's deepest features, from which the cell is classified."""
        return self.deepest

    @property
    def type_layer(self) -> nn.Linear:
        """The linear layer of the library's head, which follows average pooling and dropout."""
        return next(layer for layer in self.model.classification_head if isinstance(layer, nn.Linear))

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        """Map images (B, 3, H, W) in [0, 1] to a `Prediction`; its evidence is the predicted probability of cell."""
        features = self.model.encoder(self.normalise(image))
        segmentation = self.model.segmentation_head(self.model.decoder(features))
        cell = 1 - segmentation.softmax(dim=1)[:, :1]
        evidence = interpolate(cell, scale_factor=0.25, mode="area")
        deepest = self.deepest(features[-1])
        embedding = deepest.mean(dim=(2, 3))
        cell_type = self.model.classification_head(deepest)
        return Prediction(
            segmentation, cell_type, evidence, embedding, contribution(self, deepest, cell_type, evidence)
        )


class Classifier(nn.Module):
    """A pure classifier; cell and nucleus are derived from the prior, so that there is a cell to classify."""

    outlines = False

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
        """The deepest features, from which the cell is classified."""
        return self.deepest

    @property
    def type_layer(self) -> nn.Linear:
        """The linear layer that follows average pooling."""
        return cast(nn.Linear, self.tell[1])

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        """Map images (B, 3, H, W) and priors (B, P, H, W), both in [0, 1], to a `Prediction`.

        All positions contribute equally to the classification, so the evidence is 1 everywhere.
        """
        deepest = self.deepest(self.encoder.forward_features(self.normalise(image)))
        embedding = deepest.mean(dim=(2, 3))
        evidence = prior.new_ones(len(prior), 1, prior.shape[2] // 4, prior.shape[3] // 4)
        outlines, cell_type = logits_from_prior(image, prior), self.tell(embedding)
        return Prediction(outlines, cell_type, evidence, embedding, contribution(self, deepest, cell_type, evidence))


def contribution(net: Baseline | Classifier, deepest: Tensor, cell_type: Tensor, evidence: Tensor) -> Tensor | None:
    """Return class activation maps (Zhou et al., CVPR 2016) of the most probable type, at least 0, like `evidence`."""
    if net.training:
        return None
    weights = net.type_layer.weight[cell_type.argmax(dim=1)]
    added = (deepest * weights[:, :, None, None]).sum(dim=1, keepdim=True).relu()
    return interpolate(added, size=evidence.shape[-2:], mode="bilinear", align_corners=False)


def logits_from_prior(image: Tensor, prior: Tensor) -> Tensor:
    """Convert priors (B, P, H, W) to logits (B, 3, H, W) of background, cytoplasm and nucleus.

    Adjacent-category logits (Agresti, Categorical Data Analysis, 2013) with fixed thresholds: the more salient a pixel,
    the likelier it is cell, and then nucleus. The image (B, 3, H, W) only provides the shape: an exported graph that
    never reads it would lose this input.
    """
    mean = prior.mean(dim=1)
    cytoplasm = STEEPNESS * (mean - CELL_PRIOR)
    nucleus = cytoplasm + STEEPNESS * (mean - NUCLEUS_PRIOR)
    return torch.stack((torch.zeros_like(image[:, 0]), cytoplasm, nucleus), dim=1)


def _encoder_decoder(
    spec: ModelSpec, architecture: str, backbone: str, encoder: dict[str, Any] | None = None
) -> nn.Module:
    import segmentation_models_pytorch as smp  # slow to import, and only baselines need it

    heads = {"classes": 3, "aux_params": {"classes": len(spec.labels.classes), "dropout": DROPOUT}}
    model = getattr(smp, architecture)(f"tu-{backbone}", encoder_weights=None, **heads, **(encoder or {}))
    initialise(model.encoder.model, backbone, spec.net.pretrained)
    return Baseline(model, backbone)


def _classifier(spec: ModelSpec, backbone: str) -> nn.Module:
    encoder = timm.create_model(backbone, num_classes=0)
    initialise(encoder, backbone, spec.net.pretrained)
    return Classifier(encoder, backbone, len(spec.labels.classes))


@register("unet")
def unet(spec: ModelSpec) -> nn.Module:
    """Build a U-Net (Ronneberger et al., MICCAI 2015) on the backbone of the spec."""
    return _encoder_decoder(spec, "Unet", spec.net.backbone)


@register("deeplabv3plus")
def deeplabv3plus(spec: ModelSpec) -> nn.Module:
    """Build a DeepLabV3+ (Chen et al., ECCV 2018) on the backbone of the spec."""
    return _encoder_decoder(spec, "DeepLabV3Plus", spec.net.backbone)


@register("swin-unet", backbone=SWIN)
def swin_unet(spec: ModelSpec) -> nn.Module:
    """Build a U-Net decoder on a Swin-T encoder (Liu et al., ICCV 2021) that accepts any image size.

    It is a hybrid, unlike Swin-Unet (Cao et al., ECCV Workshops 2022), whose decoder consists of Swin blocks, too.
    """
    return _encoder_decoder(spec, "Unet", SWIN, {"strict_img_size": False})


@register("resnet50", backbone="resnet50")
def resnet50(spec: ModelSpec) -> nn.Module:
    """Build a ResNet-50 (He et al., CVPR 2016) that classifies cells without outlining them."""
    return _classifier(spec, "resnet50")


@register("efficientnet")
def efficientnet(spec: ModelSpec) -> nn.Module:
    """Build the backbone of the spec (EfficientNet: Tan and Le, ICML 2019) to classify cells without outlining them."""
    return _classifier(spec, spec.net.backbone)
