"""The interface of every network, and the registry of networks by name."""

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
    """Where in the image the classification is based on; (B, 1, H/4, W/4) in [0, 1]."""
    embedding: Tensor
    """Features from which the cell is classified; (B, D)."""
    contribution: Tensor | None = None
    """How much each position adds to the logit of the most probable type; (B, 1, H/4, W/4), at least 0. None while
    training, or if the network cannot say."""


class Network(Protocol):
    """What the rest of the package requires of a network besides being a `torch.nn.Module`."""

    @property
    def embedding_width(self) -> int:
        """D of `Prediction.embedding`."""

    @property
    def cam_layer(self) -> nn.Module:
        """Module whose output Grad-CAM uses: all maps (B, channels, h, w) from which the cell is classified."""

    @property
    def outlines(self) -> bool:
        """Whether `Prediction.segmentation` is learned; if not, segmentation scores say nothing about the network."""

    @property
    def type_layer(self) -> nn.Linear:
        """Layer that maps embeddings to `Prediction.cell_type`; the only one that calibration changes."""

    def __call__(self, image: Tensor, prior: Tensor) -> Prediction:
        """Map images (B, 3, H, W) and priors (B, P, H, W), float32 in [0, 1], to a `Prediction`."""


Builder = Callable[[ModelSpec], nn.Module]
NETWORKS: dict[str, Builder] = {}
BACKBONES: dict[str, str] = {}
"""Backbones of the networks that do not use the one in the spec."""


def register(name: str, backbone: str = "") -> Callable[[Builder], Builder]:
    """Register a builder under `name`, with its `backbone` if it does not use the one in the spec."""

    def add(made: Builder) -> Builder:
        NETWORKS[name] = made
        if backbone:
            BACKBONES[name] = backbone
        return made

    return add


def builder(name: str) -> Builder:
    """Return a network's builder.

    Raises
    ------
    InputError
        If no network is registered under `name`.
    """
    if name not in NETWORKS:
        raise InputError(f"network {name!r} is unknown: name one of {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name]


def imagenet_origin(spec: ModelSpec) -> str:
    """Return package, version and licence of the ImageNet weights that `build(spec)` uses; empty if it uses none."""
    package = PACKAGES.get(BACKBONES.get(spec.net.name, spec.net.backbone))
    if package is None or spec.net.pretrained is Pretrained.OFF or not package.installed():
        return ""
    return str(package)


def build(spec: ModelSpec) -> nn.Module:
    """Build the network named `spec.net.name`, with random or pretrained weights depending on `spec.net.pretrained`.

    The module's `forward(image, prior)` takes float32 (B, 3, H, W) and (B, P, H, W), both in [0, 1], with H and W
    multiples of 32, and returns a `Prediction`. The module is also a `Network`.

    Raises
    ------
    InputError
        If no network has that name, or ImageNet weights are required but not installed.
    """
    return builder(spec.net.name)(spec)
