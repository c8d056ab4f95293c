"""The protocol that saliency priors follow and the registry through which a spec names them."""

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import InputError

Saliency = NDArray[np.float32]
"""float32, shape (H, W), in [0, 1]."""


class SaliencyPrior(Protocol):
    """A training-free guess at where white blood cells are."""

    def __call__(self, rgb: Rgb) -> Saliency:
        """Return the saliency of every pixel of a uint8 image of shape (H, W, 3): float32 (H, W) in [0, 1]."""
        ...

    def fit(self, overview: Rgb) -> Self:
        """Return the same prior with its image statistics taken from `overview` (uint8 (h, w, 3)) and frozen."""
        ...


PriorFactory = Callable[[float], SaliencyPrior]
"""Makes a prior for cells that are so many px wide."""

REGISTRY: dict[str, PriorFactory] = {}
"""Name -> factory, filled by `register`."""

Factory = TypeVar("Factory", bound=PriorFactory)


def register(name: str) -> Callable[[Factory], Factory]:
    """Make a prior known under `name`; decorates a class or function that takes the cells' width in px."""

    def add(factory: Factory) -> Factory:
        if name in REGISTRY:
            raise InputError(f"prior {name!r} is registered twice: choose another name")
        REGISTRY[name] = factory
        return factory

    return add


def factory(name: str) -> PriorFactory:
    """Look up a prior's factory.

    Raises
    ------
    InputError
        If no prior is registered under `name`.
    """
    if name not in REGISTRY:
        raise InputError(f"prior {name!r} is unknown: name one of {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name]
