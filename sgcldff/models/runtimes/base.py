"""The interface of a network that reads slides, whichever engine runs it."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import Engine, ModelSpec, Precision
from sgcldff.models.out_of_distribution import Typicality

Labels = NDArray[np.uint8]
"""Label images with the codes of `sgcldff.core.label_codes`."""


class Types(NamedTuple):
    """The classification of the cells at the centres of B images."""

    probabilities: NDArray[np.float32]
    """Class probabilities; (B, C)."""
    embedding: NDArray[np.float32]
    """Features from which the cells were classified; (B, D)."""
    contribution: NDArray[np.float32]
    """How much each position adds to the logit of the most probable type; (B, H/8, W/8), at least 0."""


class Runtime(Protocol):
    """A trained network that processes batches of B images of H x W px."""

    @property
    def spec(self) -> ModelSpec:
        """The spec with which the network was trained."""

    @property
    def engine(self) -> Engine:
        """The engine that runs the network; never `AUTO`."""

    @property
    def precision(self) -> Precision:
        """The numeric precision; never `AUTO`."""

    @property
    def typicality(self) -> Typicality | None:
        """Scores from embeddings how similar cells are to the training cells; None if the model has no reference."""

    def segment(self, rgb: Rgb, prior: NDArray[np.float32]) -> Labels:
        """Return the most probable label of every pixel, uint8 (B, H, W).

        Parameters
        ----------
        rgb
            uint8, (B, H, W, 3), at `spec.mpp` um/px; any H and W.
        prior
            float32, (B, P, H, W) in [0, 1].
        """

    def classify(self, rgb: Rgb, prior: NDArray[np.float32]) -> Types:
        """Classify the cell at the centre of each image; the arguments are those of `segment`."""
