"""The interface of adapters: a description of a data set, and a scan that turns a folder into samples."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.records import MaskCode, Sample
from sgcldff.core.settings import CELL_UM

SIZE_TOLERANCE = 0.03
"""Tolerance of a side relative to its published length: PBC's vary by 2 %, and cells of one type by far more."""
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Rejected:
    """An input from which an adapter cannot make a sample."""

    image: str
    reason: str


@dataclass(frozen=True)
class PublishedSize:
    """Size of a data set's images as published by its authors; images of another size have another scale, too."""

    sizes: tuple[tuple[int, int], ...]
    """(width, height) of complete images, px."""
    longer: float = 1.0
    """Smallest share of the longer side of an image that was cut off at the border of its field."""
    shorter: float = 1.0
    """The same for the shorter side."""

    def fits(self, width: int, height: int) -> bool:
        """Return whether an image can be one of those published, within `SIZE_TOLERANCE`."""
        shares = (sorted((width / size[0], height / size[1])) for size in self.sizes)
        lower, upper = 1 - SIZE_TOLERANCE, 1 + SIZE_TOLERANCE
        return any(
            self.shorter * lower <= small <= upper and self.longer * lower <= large <= upper for small, large in shares
        )

    def __str__(self) -> str:
        return " or ".join(f"{width}x{height} px" for width, height in self.sizes)


@dataclass(frozen=True)
class Download:
    """An archive that may be downloaded."""

    url: str
    sha256: str | None = None
    """None: no checksum is known, and the user has to provide one."""
    archive: str = "archive.zip"
    """File name of the archive before it is unpacked."""


@dataclass(frozen=True)
class Adapter(ABC):
    """Reads one public data set, or one layout, from a user's folder."""

    name: str
    """Short name for the command line."""
    title: str
    licence: str
    url: str
    """Official page of the data set; empty for generic layouts."""
    instructions: str
    """What to download, and where to put it."""
    mpp: float | None = None
    """um/px; None if the user has to provide it."""
    mask_code: MaskCode | None = None
    download: Download | None = None
    """None if the licence or the site does not allow automatic downloads."""
    published: PublishedSize | None = None
    """None if images may have any size."""
    own_scale: bool = False
    """Whether the scale is recorded with every image, so that the user need not provide it."""

    @abstractmethod
    def recognises(self, folder: Path) -> bool:
        """Return whether `folder` is the root of this data set."""

    @abstractmethod
    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the samples below `folder`, in a fixed order, without opening images.

        Raises
        ------
        InputError
            If the folder does not exist, or lacks what the layout needs.
        """

    def scale(self) -> float:
        """Return `mpp`.

        Raises
        ------
        InputError
            If it is not known.
        """
        if self.mpp is None:
            raise InputError(
                f"adapter {self.name!r} does not know the scale of its images: give mpp (um/px), "
                f"{CELL_UM} um divided by the width of a white blood cell in px"
            )
        return self.mpp

    def sample(self, image: Path, label: str | None, mask: Path | None = None, name: str = "") -> Sample:
        """Make the sample of an image that is its own group; `name` replaces a stem that is not unique."""
        identity = f"{self.name}/{name or image.stem}"
        return Sample(
            id=identity,
            source=self.name,
            group=identity,
            image=str(image),
            mpp=self.scale(),
            licence=self.licence,
            label=label,
            mask=str(mask) if mask else None,
            mask_code=self.mask_code if mask else None,
        )

    def not_found(self, folder: Path, expected: str) -> InputError:
        """Return the error for a folder that lacks what the layout needs."""
        if not folder.is_dir():
            return MissingInputError(f"{folder}: no such folder; {self.instructions}")
        return InputError(f"{folder}: contains no {self.title}: expected {expected}; {self.instructions}")


def images_in(folder: Path) -> list[Path]:
    """List the files directly in `folder` that are images by their names, sorted, without hidden ones."""
    visible = (path for path in entries_in(folder) if not path.name.startswith("."))
    return sorted(path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES)


def entries_in(folder: Path) -> Iterable[Path]:
    """List the contents of `folder`; nothing if it is not a folder."""
    return folder.iterdir() if folder.is_dir() else ()


def child(folder: Path, *names: str) -> Path:
    """Join names regardless of case: the existing entry if there is one, otherwise the path as named."""
    for name in names:
        exact = folder / name
        matches = sorted(path for path in entries_in(folder) if path.name.lower() == name.lower())
        folder = exact if exact.exists() or not matches else matches[0]
    return folder
