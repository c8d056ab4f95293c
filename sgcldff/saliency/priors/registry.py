"""The protocol of saliency priors, their registry by name, and the priors of a spec computed together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import InputError
from sgcldff.core.settings import PriorSpec

Saliency = NDArray[np.float32]
"""float32, shape (H, W), in [0, 1]."""


class SaliencyPrior(Protocol):
    """A training-free estimate of where white blood cells are."""

    def __call__(self, rgb: Rgb) -> Saliency:
        """Return the saliency of every pixel of a uint8 image of shape (H, W, 3): float32 (H, W) in [0, 1]."""

    def fit(self, overview: Rgb) -> Self:
        """Return the same prior with its image statistics frozen to those of `overview` (uint8 (h, w, 3))."""


PriorFactory = Callable[[float], SaliencyPrior]
"""Creates a prior for cells of a given width, px."""

PRIORS: dict[str, PriorFactory] = {}
"""Name -> factory, filled by `register`."""

Factory = TypeVar("Factory", bound=PriorFactory)


def register(name: str) -> Callable[[Factory], Factory]:
    """Register a class or function, which takes the width of cells in px, as the prior `name`."""

    def add(factory: Factory) -> Factory:
        if name in PRIORS:
            raise InputError(f"prior {name!r} is registered twice: choose another name")
        PRIORS[name] = factory
        return factory

    return add


def factory(name: str) -> PriorFactory:
    """Return a prior's factory.

    Raises
    ------
    InputError
        If no prior is registered under `name`.
    """
    if name not in PRIORS:
        raise InputError(f"prior {name!r} is unknown: name one of {', '.join(sorted(PRIORS))}")
    return PRIORS[name]


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
