"""What every network answers, and the registry of networks by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from sgcldff.core.errors import InputError
from sgcldff.core.settings import ModelSpec, Pretrained
from sgcldff.models.nets.pretrained import PACKAGES


@dataclass(frozen=True)
class Prediction:
    """Raw outputs of a network for a batch of B images of H x W px (multiples of 32), all float."""

    segmentation: Tensor
    """Logits of background, cytoplasm, nucleus; (B, 3, H, W)."""
    cell_type: Tensor
    """Logits of the type of the cell at the image's centre; (B, C)."""
    evidence: Tensor
    """Where the type was read from; (B, 1, H/4, W/4) in [0, 1]."""
    embedding: Tensor
    """What the type was told from; (B, D)."""


class Network(Protocol):
    """What the rest of the package asks of a network besides being a `torch.nn.Module`."""

    @property
    def embedding_width(self) -> int:
        """D of `Prediction.embedding`."""

    @property
    def cam_layer(self) -> nn.Module:
        """Module whose output Grad-CAM looks at."""

    @property
    def outlines(self) -> bool:
        """Whether `Prediction.segmentation` is learned; scores of outlines say nothing of the network where not."""

    @property
    def type_layer(self) -> nn.Linear:
        """Layer that gives `Prediction.cell_type` of embeddings; calibration changes it alone."""

    def __call__(self, image: Tensor, prior: Tensor) -> Prediction:
        """Map images (B, 3, H, W) and priors (B, P, H, W), float32 in [0, 1], to a `Prediction`."""


Builder = Callable[[ModelSpec], nn.Module]
REGISTRY: dict[str, Builder] = {}
BACKBONES: dict[str, str] = {}
"""Backbones of the networks that do not take that of the spec."""


def register(name: str, backbone: str = "") -> Callable[[Builder], Builder]:
    """Make a builder known under `name`; `backbone` is given where it does not follow the spec."""

    def enter(made: Builder) -> Builder:
        REGISTRY[name] = made
        if backbone:
            BACKBONES[name] = backbone
        return made

    return enter


def builder(name: str) -> Builder:
    """Look up a network's builder.

    Raises
    ------
    InputError
        If no network is registered under `name`.
    """
    if name not in REGISTRY:
        raise InputError(f"network {name!r} is unknown: name one of {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name]


def imagenet_origin(spec: ModelSpec) -> str:
    """Name package, version and licence of the ImageNet weights that `build(spec)` starts from; empty if from none."""
    package = PACKAGES.get(BACKBONES.get(spec.net.name, spec.net.backbone))
    if package is None or spec.net.pretrained is Pretrained.OFF or not package.installed():
        return ""
    return str(package)


def build(spec: ModelSpec) -> nn.Module:
    """Build the network that `spec.net.name` names, with random or pretrained weights as `spec.net.pretrained` says.

    The module's `forward(image, prior)` takes float32 (B, 3, H, W) and (B, P, H, W), both in [0, 1], H and W multiples
    of 32, and returns a `Prediction`. It also is a `Network`.

    Raises
    ------
    InputError
        If no network has that name, or ImageNet weights are required and not installed.
    """
    return builder(spec.net.name)(spec)
