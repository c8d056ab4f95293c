"""Zeiss CZI, read with pylibCZIrw (extra `czi`): each scene is a picture."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import SlideError
from sgcldff.core.geometry import Box
from sgcldff.slides.pixels.base import Picture
from sgcldff.slides.pixels.page_selection import ANY_PLANE, PictureCandidate, Plane, choose_focus, choose_picture
from sgcldff.slides.pixels.units import Spacing, square_mpp

MAGIC = b"ZISRAWFILE"
BRIGHTFIELD = "Bgr24"
"""Pixel type of colour pictures with 8 bits."""
SMALLEST_PX = 512
"""Levels are halved until their longer side is at most this."""


def is_czi(path: Path) -> bool:
    """Return whether a file starts like a CZI."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class CziPicture(Picture):
    """A scene of a CZI file, in levels that are halved again and again; access to the file is serialised by a lock."""

    def __init__(self, path: Path, plane: Plane = ANY_PLANE) -> None:
        try:
            from pylibCZIrw import czi
        except ModuleNotFoundError as error:
            raise SlideError(f"{path}: reading CZI needs pylibCZIrw: pip install 'sgcldff[czi]'") from error
        self._lock, self._opened = threading.Lock(), ExitStack()
        self._paper = czi.Color(1.0, 1.0, 1.0)
        self._file = self._opened.enter_context(czi.open_czi(str(path)))
        try:
            self._choose(path, plane)
        except BaseException:
            self.close()
            raise

    def _choose(self, path: Path, plane: Plane) -> None:
        kinds = self._file.pixel_types
        if list(kinds.values()) != [BRIGHTFIELD]:
            listed = ", ".join(kinds.values())
            raise SlideError(f"{path}: its channels ({listed}) are no 8-bit brightfield; export it as 8-bit RGB")
        extent = self._file.total_bounding_box
        for name, axis in (("times", "T"), ("illuminations", "I"), ("phases", "H"), ("views", "V")):
            first, end = extent.get(axis, (0, 1))
            if end - first > 1:
                raise SlideError(f"{path}: contains {end - first} {name} (axis {axis}); export one alone")
        scenes = self._file.scenes_bounding_rectangle_no_pyramid or {
            None: self._file.total_bounding_rectangle_no_pyramid
        }
        numbers = list(scenes)
        candidates = [PictureCandidate((scenes[at].h, scenes[at].w), f"scene {at}") for at in numbers]
        self._scene = numbers[choose_picture(path, candidates, plane.page)]
        first, end = extent.get("Z", (0, 1))
        self._plane = {"C": 0, "T": 0, "Z": first + choose_focus(path, end - first, plane.z)}
        area = scenes[self._scene]
        self._corner, shapes = (area.x, area.y), [(area.h, area.w)]
        while max(shapes[-1]) > SMALLEST_PX and min(shapes[-1]) > 1:
            shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
        self.shapes = tuple(shapes)
        self.mpp = square_mpp(path, _spacing(self._file.metadata))

    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box; what was not scanned is white."""
        factor = 2**level
        left, top = self._corner[0] + box.x0 * factor, self._corner[1] + box.y0 * factor
        area = (left, top, box.width * factor, box.height * factor)
        with self._lock:
            bgr = self._file.read(area, self._plane, self._scene, 1 / factor, background_pixel=self._paper)
        return np.ascontiguousarray(bgr[..., ::-1], np.uint8)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


def _spacing(metadata: Any) -> Spacing:
    """Return um/px along y and x; the file stores metres."""
    scaling = metadata.get("ImageDocument", {}).get("Metadata", {}).get("Scaling") or {}
    distances = (scaling.get("Items") or {}).get("Distance") or []
    distances = [distances] if isinstance(distances, dict) else distances  # of one alone
    found = {one["@Id"]: float(one["Value"]) * 1e6 for one in distances if one.get("Value")}
    return found.get("Y"), found.get("X")
