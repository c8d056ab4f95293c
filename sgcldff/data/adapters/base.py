"""What every data set adapter is: a description, and a scan that turns a folder into samples."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.records import MaskCode, Sample
from sgcldff.core.settings import CELL_UM

SIZE_TOLERANCE = 0.03
"""By how much a side may differ from what is published: PBC's differ by 2 %, and cells of one type by far more."""
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Rejected:
    """An input that an adapter cannot make a sample of."""

    image: str
    reason: str


@dataclass(frozen=True)
class PublishedSize:
    """Size of a data set's images as its authors publish them; images of another size have another scale, too."""

    sizes: tuple[tuple[int, int], ...]
    """(width, height) of whole images, px."""
    longer: float = 1.0
    """Share that is left, at the least, of the longer side of an image that was cut off at the border of its field."""
    shorter: float = 1.0
    """The same of the shorter side."""

    def fits(self, width: int, height: int) -> bool:
        """Return whether an image may be one of those published, give or take `SIZE_TOLERANCE`."""
        shares = (sorted((width / whole[0], height / whole[1])) for whole in self.sizes)
        least, most = 1 - SIZE_TOLERANCE, 1 + SIZE_TOLERANCE
        return any(self.shorter * least <= low <= most and self.longer * least <= high <= most for low, high in shares)

    def __str__(self) -> str:
        return " or ".join(f"{width}x{height} px" for width, height in self.sizes)


@dataclass(frozen=True)
class Download:
    """An archive that may be fetched."""

    url: str
    sha256: str | None = None
    """None: no checksum is known; the user has to give one."""
    archive: str = "archive.zip"
    """Name under which the archive is stored before it is unpacked."""


@dataclass(frozen=True)
class Adapter(ABC):
    """Reads one public data set, or one layout, from a user's folder."""

    name: str
    """Short name, as the command line takes it."""
    title: str
    licence: str
    url: str
    """Official page of the data set; empty for layouts that are no data set."""
    instructions: str
    """What to download, and where to put it."""
    mpp: float | None = None
    """um/px; None where the folder has to be described by its user."""
    mask_code: MaskCode | None = None
    download: Download | None = None
    """None where the licence or the site does not allow a download without a person."""
    published: PublishedSize | None = None
    """None where images may have any size."""
    own_scale: bool = False
    """The scale of every image stands beside it, and is not asked for."""

    @abstractmethod
    def recognises(self, folder: Path) -> bool:
        """Return whether `folder` is the root of this data set."""

    @abstractmethod
    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the samples below `folder`, in a fixed order, without opening images.

        Raises
        ------
        InputError
            If the folder is not there, or lacks what the layout needs.
        """

    def scale(self) -> float:
        """Return `mpp`, or ask for it.

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
        """Describe an image that is a group of its own; `name` tells it apart where its stem alone does not."""
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
        """Make the error of a folder that lacks what the layout needs."""
        if not folder.is_dir():
            return MissingInputError(f"{folder}: no such folder; {self.instructions}")
        return InputError(f"{folder}: holds no {self.title}: expected {expected}; {self.instructions}")


def images_in(folder: Path) -> list[Path]:
    """List the image files that lie directly in `folder`, by name; hidden files are left out."""
    return sorted(path for path in entries(folder) if is_image(path))


def is_image(path: Path) -> bool:
    """Tell by its name whether a file is an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def entries(folder: Path) -> Iterable[Path]:
    """List what lies in `folder`; nothing if it is no folder."""
    return folder.iterdir() if folder.is_dir() else ()


def child(folder: Path, *names: str) -> Path:
    """Join names whatever their case: the entry that is there, else the path as it was named."""
    for name in names:
        exact = folder / name
        matches = sorted(path for path in entries(folder) if path.name.lower() == name.lower())
        folder = exact if exact.exists() or not matches else matches[0]
    return folder
