"""An exported network: one task for images of one size, and the cache key of its graph."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from sgcldff.core.settings import digest
from sgcldff.models.checkpoint import SPEC_FILE, WEIGHTS_FILE
from sgcldff.slides.images import sha256_of

NETWORK_CODE = (*sorted((Path(__file__).parents[1] / "nets").glob("*.py")), Path(__file__).with_name("heads.py"))
"""Source files on which the outputs depend, besides the model's files."""


class NetworkTask(StrEnum):
    """What a network is run for."""

    SEGMENT = "segment"
    """The label of every pixel."""
    CLASSIFY = "classify"
    """The type of the cell at the centre."""


@dataclass(frozen=True)
class Graph:
    """A saved model, run for one task on images of one size."""

    model: str
    """Folder of the model."""
    task: NetworkTask
    shape: tuple[int, int, int]
    """Images per batch, and their height and width, px; multiples of 32."""

    @cached_property
    def key(self) -> str:
        """Digest of everything that determines the graph."""
        model = Path(self.model)
        files = [sha256_of(path) for path in (model / SPEC_FILE, model / WEIGHTS_FILE, *NETWORK_CODE)]
        return digest((files, self.task, self.shape, version("torch"), version("timm"), version("openvino")))
