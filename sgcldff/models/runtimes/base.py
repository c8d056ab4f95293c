"""What the reading of slides asks of a network, however it is run."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import Engine, ModelSpec, Precision
from sgcldff.models.out_of_distribution import Typicality

Labels = NDArray[np.uint8]
"""0 background, 1 cytoplasm, 2 nucleus."""


class Types(NamedTuple):
    """What a network tells of the cells at the centres of B images."""

    probabilities: NDArray[np.float32]
    """Of the types; (B, C)."""
    embedding: NDArray[np.float32]
    """What the type was told from; (B, D)."""


class Runtime(Protocol):
    """A trained network that answers for batches of B images of H x W px."""

    @property
    def spec(self) -> ModelSpec:
        """What the network was trained to see and to tell."""

    @property
    def engine(self) -> Engine:
        """What runs the network; never `AUTO`."""

    @property
    def precision(self) -> Precision:
        """Numbers that it computes with; never `AUTO`."""

    @property
    def typicality(self) -> Typicality | None:
        """Tells from an embedding how much a cell is like the training cells; None where that is not known."""

    def segment(self, rgb: Rgb, prior: NDArray[np.float32]) -> Labels:
        """Return the likeliest label of every pixel, uint8 (B, H, W).

        Parameters
        ----------
        rgb
            uint8, (B, H, W, 3), at `spec.mpp` um/px; any H and W.
        prior
            float32, (B, P, H, W) in [0, 1].
        """

    def classify(self, rgb: Rgb, prior: NDArray[np.float32]) -> Types:
        """Tell the type of the cell at the centre of images as in `segment`."""
