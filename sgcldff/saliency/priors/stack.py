"""Several priors of one image, as listed in a spec."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import InputError
from sgcldff.core.settings import PriorSpec
from sgcldff.saliency.priors.registry import SaliencyPrior, factory


@dataclass(frozen=True)
class PriorStack:
    """Priors that are computed together; images are at the spec's mpp."""

    priors: tuple[SaliencyPrior, ...]

    def __call__(self, rgb: Rgb) -> NDArray[np.float32]:
        """Compute all priors: float32 (P, H, W) in [0, 1], of a uint8 image (H, W, 3).

        Raises
        ------
        InputError
            If `rgb` is not a uint8 image of three channels with at least one pixel.
        """
        _require_rgb(rgb)
        maps = [prior(rgb) for prior in self.priors]
        return maps[0][None] if len(maps) == 1 else np.stack(maps)

    def fit(self, overview: Rgb) -> Self:
        """Freeze the statistics of a slide's overview, uint8 (h, w, 3), so that all its shards are treated alike.

        Raises
        ------
        InputError
            As for `__call__`.
        """
        _require_rgb(overview)
        return type(self)(tuple(prior.fit(overview) for prior in self.priors))


def _require_rgb(rgb: Rgb) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise InputError(f"priors take uint8 images of shape (H, W, 3) with pixels, got {rgb.dtype} {rgb.shape}")


def build(spec: PriorSpec) -> PriorStack:
    """Create the priors that `spec` lists, in order.

    Raises
    ------
    InputError
        If a name is not registered.
    """
    return PriorStack(tuple(factory(name)(spec.cell_um / spec.mpp) for name in spec.names))
