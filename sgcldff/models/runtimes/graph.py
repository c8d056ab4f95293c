"""What a network is exported as: a question about images of one size, and what the answer is made of."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from sgcldff.core.settings import digest
from sgcldff.models.checkpoint import SPEC_FILE, WEIGHTS_FILE
from sgcldff.slides.images import sha256_of

CODE = (*sorted((Path(__file__).parents[1] / "nets").glob("*.py")), Path(__file__).with_name("heads.py"))
"""Files on which the answer depends besides the model's."""


class Question(StrEnum):
    """What is asked of a network."""

    SEGMENT = "segment"
    """The label of every pixel."""
    CLASSIFY = "classify"
    """The type of the cell at the centre."""


@dataclass(frozen=True)
class Graph:
    """A question to a saved model about images of one size."""

    model: str
    """Folder of the model."""
    question: Question
    shape: tuple[int, int, int]
    """Images at a time, their height and their width, px; multiples of 32."""

    @cached_property
    def key(self) -> str:
        """Digest of all that the graph is made of."""
        files = [sha256_of(path) for path in (*(Path(self.model) / name for name in (SPEC_FILE, WEIGHTS_FILE)), *CODE)]
        return digest((files, self.question, self.shape, version("torch"), version("timm"), version("openvino")))
