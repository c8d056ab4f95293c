"""OME-Zarr images (NGFF 0.4 and 0.5), read with zarr.

See Moore et al., "OME-Zarr: a cloud-optimized bioimaging file format with international community support" (2023), and
the specification at https://ngff.openmicroscopy.org.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from sgcldff.errors import SlideError
from sgcldff.grid import Box
from sgcldff.images import Rgb
from sgcldff.slides.source import Pixels, damage_reported, plausible
from sgcldff.slides.units import in_um

UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError)
"""What zarr and its codecs raise on damaged metadata and chunks."""


@dataclass(frozen=True)
class _Axes:
    names: tuple[str, ...]

    def index(self, box: Box) -> tuple[slice | int, ...]:
        """Index a box of all channels; other axes are of length 1."""
        rows, columns = box.slices
        parts: dict[str, slice | int] = {"y": rows, "x": columns, "c": slice(0, 3)}
        return tuple(parts.get(name, 0) for name in self.names)

    def to_image(self, array: NDArray[Any]) -> NDArray[Any]:
        """Bring what `index` selected to (y, x, c)."""
        kept = [name for name in self.names if name in "yxc"]
        return array.transpose([kept.index(name) for name in "yxc"])

    def sizes(self, shape: tuple[int, ...]) -> dict[str, int]:
        """Name the sides of an array."""
        return dict(zip(self.names, shape, strict=True))


class NgffPixels(Pixels):
    """A multiscale RGB image in a Zarr folder. zarr may be used by several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with damage_reported(path, UNREADABLE, "the Zarr metadata"):
            group, multiscale = _multiscale(path)
            self._axes = _Axes(tuple(axis["name"] for axis in multiscale["axes"]))
            self._arrays = tuple(_array(group, level["path"]) for level in multiscale["datasets"])
            self.mpp = plausible(_mpp(multiscale))
        for array in self._arrays:
            self._require_rgb(array)
        sides = [self._axes.sizes(array.shape) for array in self._arrays]
        self.shapes = tuple((side["y"], side["x"]) for side in sides)

    def _require_rgb(self, array: zarr.Array[Any]) -> None:
        sides = self._axes.sizes(array.shape)
        extra = [name for name, side in sides.items() if name not in "yxc" and side != 1]
        if array.dtype != np.uint8 or sides.get("c") not in (3, 4) or extra or not {"y", "x"} <= sides.keys():
            found = f"{array.dtype}, {' x '.join(f'{name} {side}' for name, side in sides.items())}"
            raise SlideError(f"{self._path}: is no 8-bit RGB image ({found}); export one plane as 8-bit RGB")

    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box; a chunk that is missing reads as the array's fill value."""
        with damage_reported(self._path, UNREADABLE, f"level {level}, {box}"):
            return self._axes.to_image(np.asarray(self._arrays[level][self._axes.index(box)]))

    def close(self) -> None:
        """Do nothing: zarr holds no file open."""


def _multiscale(path: Path) -> tuple[zarr.Group, dict[str, Any]]:
    """Find the image: the folder itself, or its first image as bioformats2raw writes it."""
    root = zarr.open_group(path, mode="r")
    for group in (root, root.get("0")):
        if isinstance(group, zarr.Group):
            attributes = group.attrs.asdict()
            found = attributes.get("ome", attributes)
            if isinstance(found, dict) and found.get("multiscales"):
                return group, found["multiscales"][0]
    raise ValueError("no `multiscales` in its attributes")


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"level {name} is no array")
    return array


def _mpp(multiscale: dict[str, Any]) -> float | None:
    position = next(at for at, axis in enumerate(multiscale["axes"]) if axis["name"] == "x")
    steps = multiscale["datasets"][0]["coordinateTransformations"] + multiscale.get("coordinateTransformations", [])
    scales = [step["scale"][position] for step in steps if step["type"] == "scale"]
    return in_um(float(np.prod(scales)), multiscale["axes"][position].get("unit"))
