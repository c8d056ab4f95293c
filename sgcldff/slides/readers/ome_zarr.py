"""OME-Zarr images (NGFF 0.1 to 0.6), in a folder or a ZIP file, read with zarr.

See Moore et al., "OME-Zarr: a cloud-optimized bioimaging file format with international community support" (2023), and
the specification at https://ngff.openmicroscopy.org.
"""

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import ZipStore

from sgcldff.core.arrays import Rgb
from sgcldff.core.boundary import is_regular
from sgcldff.core.errors import SlideError
from sgcldff.core.geometry import Box
from sgcldff.slides.content import ZARR_FILES, is_zarr
from sgcldff.slides.pixels.base import MAX_PICTURES, Picture, pyramid, require_decodable
from sgcldff.slides.pixels.channels import is_fluorescent, rgb_order
from sgcldff.slides.pixels.ome_xml import OmeImage, ome_images
from sgcldff.slides.pixels.page_selection import (
    ANY_PLANE,
    PictureCandidate,
    Plane,
    choose_focus,
    choose_picture,
    has_role,
)
from sgcldff.slides.pixels.samples import Alpha, Colours, Samples
from sgcldff.slides.pixels.units import Spacing, in_um, square_mpp

OLDEST_AXES = ("t", "c", "z", "y", "x")
"""Axes of NGFF 0.1 and 0.2, which do not name them."""
OME_XML = "OME/METADATA.ome.xml"
"""File in which bioformats2raw describes the images of a folder."""
CHECKED_PX = 1024
"""Side of the part of the coarsest level that is checked when a file is opened."""


@dataclass(frozen=True)
class _Image:
    """A multiscale image in a group."""

    group: zarr.Group
    multiscale: Mapping[str, Any]
    attributes: Mapping[str, Any]
    ome: OmeImage

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Names of the array axes, in order and in lower case."""
        axes = self._listed_axes or OLDEST_AXES
        return tuple((axis["name"] if isinstance(axis, dict) else axis).lower() for axis in axes)

    @cached_property
    def _listed_axes(self) -> Sequence[Any]:
        """Axes as listed: from 0.6 on, those of the coordinate system to which the levels are transformed."""
        systems = self.multiscale.get("coordinateSystems")
        if not systems:
            return self.multiscale.get("axes") or ()
        (step, *_) = self.multiscale["datasets"][0]["coordinateTransformations"]
        (own,) = (system for system in systems if system["name"] == step["output"]["name"])
        return cast(Sequence[Any], own["axes"])

    @property
    def units(self) -> dict[str, str | None]:
        """Unit of each axis that has one."""
        return {axis["name"].lower(): axis.get("unit") for axis in self._listed_axes if isinstance(axis, dict)}

    @cached_property
    def arrays(self) -> tuple[zarr.Array[Any], ...]:
        """The levels in the listed order."""
        return tuple(self._array(level["path"]) for level in self.multiscale["datasets"])

    def sides(self, array: zarr.Array[Any]) -> dict[str, int]:
        """Return the lengths of an array by axis."""
        return dict(zip(self.axes, array.shape, strict=True))

    @property
    def others(self) -> dict[str, int]:
        """Axes that separate pictures, and their lengths."""
        return {axis: side for axis, side in self.sides(self.arrays[0]).items() if axis not in "zcyx"}

    def candidate(self, number: int) -> PictureCandidate:
        """Describe one of the pictures."""
        sides = self.sides(self.arrays[0])
        pairs = zip(self.others.items(), np.unravel_index(number, tuple(self.others.values())), strict=True)
        name = self.ome.name or str(self.multiscale.get("name") or self.group.basename)
        position = [f"{axis} {at + 1}" for (axis, side), at in pairs if side > 1]
        auxiliary = has_role(name) or "image-label" in self.attributes
        return PictureCandidate((sides["y"], sides["x"]), " ".join((name, *position)), auxiliary)

    def spacing(self, level: int) -> Spacing:
        """Return um/px along y and x; None if the file lacks it."""
        steps = list(self.multiscale["datasets"][level].get("coordinateTransformations") or [])
        if "coordinateSystems" not in self.multiscale:  # from 0.6 on, those of all levels lead to other systems
            steps += self.multiscale.get("coordinateTransformations") or []
        steps = [part for step in steps for part in step.get("transformations") or [step]]
        scales = [step["scale"] for step in steps if step.get("type") == "scale" and "scale" in step]
        if not scales:
            return None, None
        y, x = (
            in_um(math.prod(float(scale[self.axes.index(axis)]) for scale in scales), self.units.get(axis))
            for axis in "yx"
        )
        return y, x

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self.group[name]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"level {name} is not an array")
        return array


class NgffPicture(Picture):
    """A multiscale RGB image in a Zarr folder or ZIP file; several threads may read it."""

    def __init__(self, path: Path, plane: Plane = ANY_PLANE) -> None:
        self._path = path
        self._store: ZipStore | None = None
        try:
            self._open(plane)
            height, width = self.shapes[-1]
            middle = Box(height // 2, width // 2, height // 2, width // 2).grow(CHECKED_PX // 2).clip((height, width))
            self._samples.require_light(path, self._raw(middle, len(self.shapes) - 1))
        except BaseException:
            self.close()
            raise

    def _open(self, plane: Plane) -> None:
        images = list(_images(self._path, self._root(), _ome_xml(self._path)))
        require_decodable(self._path, (array.chunks for image in images for array in image.arrays))
        count = sum(math.prod(image.others.values()) for image in images)
        if count > MAX_PICTURES:
            raise SlideError(f"{self._path}: claims {count} pictures; export the picture to read alone")
        pictures = [(image, number) for image in images for number in range(math.prod(image.others.values()))]
        chosen = choose_picture(self._path, [image.candidate(number) for image, number in pictures], plane.page)
        image, number = pictures[chosen]
        sides = image.sides(image.arrays[0])
        self._samples = _samples(self._path, image)
        positions = np.unravel_index(number, tuple(image.others.values()))
        self._fixed = dict(zip(image.others, map(int, positions), strict=True))
        self._fixed["z"] = choose_focus(self._path, sides.get("z", 1), plane.z)
        self._axes = image.axes
        alike = [
            at
            for at, array in enumerate(image.arrays)
            if array.dtype == image.arrays[0].dtype
            and {axis: side for axis, side in image.sides(array).items() if axis not in "yx"}
            == {axis: side for axis, side in sides.items() if axis not in "yx"}
        ]
        shapes = [(image.sides(image.arrays[at])["y"], image.sides(image.arrays[at])["x"]) for at in alike]
        kept = pyramid(shapes)
        self._arrays = tuple(image.arrays[alike[at]] for at in kept)
        self.shapes = tuple(shapes[at] for at in kept)
        self.mpp = square_mpp(self._path, image.spacing(alike[kept[0]]))

    def _root(self) -> zarr.Group:
        """Open the outermost group, which may be in a folder of the ZIP file.

        Raises
        ------
        SlideError
            If there is none.
        """
        if self._path.is_dir():
            if strange := next((file for file in self._path.rglob("*") if not is_regular(file)), None):
                raise SlideError(f"{strange}: is a pipe or a device, no file; remove it, or copy the slide again")
            root = zarr.open(self._path, mode="r")
        else:
            self._store = ZipStore(self._path, mode="r")
            root = zarr.open(self._store, mode="r", path=zip_root(self._path) or "")
        if not isinstance(root, zarr.Group):
            raise SlideError(f"{self._path}: is a Zarr array without the metadata of OME-Zarr; export it as OME-Zarr")
        return root

    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box; missing chunks have the array's fill value."""
        return self._samples.to_rgb(self._raw(box, level))

    def _raw(self, box: Box, level: int) -> NDArray[Any]:
        rows, columns = box.slices
        parts: dict[str, slice | int] = {"y": rows, "x": columns, "c": slice(None), **self._fixed}
        kept = [axis for axis in self._axes if axis in "yxc"]
        raw = np.asarray(self._arrays[level][tuple(parts[axis] for axis in self._axes)])
        return raw.transpose([kept.index(axis) for axis in "yxc"]).astype(self._samples.dtype, copy=False)

    def close(self) -> None:
        """Close the ZIP file; zarr keeps no files of a folder open."""
        if self._store is not None:
            self._store.close()


def zip_root(path: Path) -> str | None:
    """Return the folder in a ZIP file that contains a Zarr group, "" for the top; None if there is no such file."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if is_zarr(names):
        return ""
    tops = sorted({name.split("/")[0] for name in names if name.count("/") == 1 and name.split("/")[1] in ZARR_FILES})
    return tops[0] if len(tops) == 1 else None


def _images(path: Path, root: zarr.Group, described: tuple[OmeImage, ...]) -> Iterator[_Image]:
    """Find the images of the group itself, or of its numbered groups, as written by bioformats2raw.

    Raises
    ------
    SlideError
        If there is none.
    """
    attributes = _attributes(root)
    if "plate" in attributes:
        raise SlideError(f"{path}: is a plate of many wells; name the folder of one of its images")
    groups = [root]
    if not attributes.get("multiscales"):
        members = [(name, member) for name, member in root.members() if isinstance(member, zarr.Group)]
        groups = [group for _, group in sorted((int(name), group) for name, group in members if name.isdecimal())]
    count = 0
    for at, group in enumerate(groups):
        attributes = _attributes(group)
        for multiscale in attributes.get("multiscales") or ():
            count += 1
            ome = described[at] if len(described) == len(groups) else OmeImage()
            yield _Image(group, multiscale, attributes, ome)
    if not count:
        raise SlideError(f"{path}: the Zarr metadata name no image (no `multiscales`); export it as OME-Zarr")


def _attributes(group: zarr.Group) -> dict[str, Any]:
    attributes = group.attrs.asdict()
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, dict) else {}


def _ome_xml(path: Path) -> tuple[OmeImage, ...]:
    """Read the metadata that bioformats2raw writes beside the images of a folder."""
    if path.is_dir():
        file = path / OME_XML
        return ome_images(file.read_text(encoding="utf-8")) if file.is_file() else ()
    with zipfile.ZipFile(path) as archive:
        name = "/".join(part for part in (zip_root(path), OME_XML) if part)
        return ome_images(archive.read(name).decode()) if name in archive.namelist() else ()


def _samples(path: Path, image: _Image) -> Samples:
    """Determine the meaning of the channels of an image.

    Raises
    ------
    SlideError
        If they are not red, green and blue with 8 or 16 bits.
    """
    array, sides = image.arrays[0], image.sides(image.arrays[0])
    found = f"{array.dtype}, {' x '.join(f'{name} {side}' for name, side in sides.items())}"
    if not {"y", "x"} <= sides.keys():
        raise SlideError(f"{path}: has no axes y and x ({found}); export it as OME-Zarr")
    dtype, count = array.dtype.newbyteorder("="), sides.get("c", 1)
    bits = image.ome.bits or 8 * dtype.itemsize
    if count < 3:
        Samples(Colours.GREY, dtype, bits).require_colour(path, found)
    omero = (image.attributes.get("omero") or {}).get("channels") or ()
    names = [str(channel.get("label") or "") for channel in omero] or list(image.ome.channels)
    names = names if len(names) == count else [""] * count
    order = rgb_order(names, [str(channel.get("color") or "") for channel in omero])
    if order is None or image.ome.fluorescent or is_fluorescent(*names):
        listed = ", ".join(name or "unnamed" for name in names)
        raise SlideError(
            f"{path}: its {count} channels ({listed}) are no brightfield red, green and blue; export a brightfield"
            " image as 8-bit RGB, or name its channels in `omero`"
        )
    alpha = Alpha.NONE if order[1] is None else Alpha.STRAIGHT
    samples = Samples(Colours.RGB, dtype, bits, order[0], alpha, -1 if order[1] is None else order[1], by_channel=True)
    samples.require_colour(path, found)
    return samples
