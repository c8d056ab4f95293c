"""The protocol of saliency priors, and their registry by name."""

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import InputError

Saliency = NDArray[np.float32]
"""float32, shape (H, W), in [0, 1]."""


class SaliencyPrior(Protocol):
    """A training-free estimate of where white blood cells are."""

    def __call__(self, rgb: Rgb) -> Saliency:
        """Return the saliency of every pixel of a uint8 image of shape (H, W, 3): float32 (H, W) in [0, 1]."""
        ...

    def fit(self, overview: Rgb) -> Self:
        """Return the same prior with its image statistics frozen to those of `overview` (uint8 (h, w, 3))."""
        ...


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
