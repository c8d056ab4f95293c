"""A whole slide with ground truth, drawn and written strip by strip."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import require
from sgcldff.data.synthetic.fields import TrueCell, true_cell
from sgcldff.data.synthetic.layout import APART_UM, Placed, Spot, compose, draw_whites, is_free, scatter, surround
from sgcldff.data.synthetic.stain import SmearSpec, light, photograph

TILE = 256
"""Side of the slide's tiles, px."""
SEAM_UM = 51.2
"""Some cells are placed at multiples of this, where tiled readers have their seams."""
SEAM_SHARE = 0.1
SHRINK = 4
"""Factor between the slide's levels."""
LEVELS = 3


@dataclass(frozen=True)
class SlideTruth:
    """A slide file and its ground truth."""

    slide: Path
    truth: Path
    """Parquet: label, x, y, x0, y0, x1, y1 (px of level 0), x_um, y_um, area_um2, nucleus_area_um2."""
    cells: tuple[TrueCell, ...]


def write_slide(
    path: str | Path,
    shape: tuple[int, int] = (8192, 8192),
    mpp: float = 0.1,
    cells: int = 150,
    seed: int = 0,
    spec: SmearSpec | None = None,
) -> SlideTruth:
    """Write a pyramidal JPEG TIFF and, beside it, `truth.parquet`.

    Parameters
    ----------
    shape
        (height, width) of level 0, px.
    mpp
        um/px of level 0; it overrides the spec's.
    cells
        Number of white cells; there are fewer if there is no room.
    spec
        Stain, light and other properties of the smear; by default a well-stained one.

    Raises
    ------
    InputError
        If the slide is smaller than a tile.
    """
    require(min(shape) >= TILE, f"{path}: the slide is {shape} px: sides must be at least {TILE} px")
    smear = _lay(replace(spec or SmearSpec(seed=seed, illumination=0.02), mpp=mpp), shape, cells, seed)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_pyramid(path, smear)
    found = tuple(cell for white in smear.whites if (cell := true_cell(white, shape, mpp)) is not None)
    truth = path.with_name("truth.parquet")
    pq.write_table(_table(found, mpp), truth)
    return SlideTruth(path, truth, found)


@dataclass(frozen=True)
class _Smear:
    """The objects on a slide, before they are drawn."""

    spec: SmearSpec
    shape: tuple[int, int]
    whites: list[Placed]
    things: list[Placed]

    def strip(self, y0: int, y1: int) -> Rgb:
        """Render rows [y0, y1), with a margin for the blur; uint8 (y1 - y0, width, 3)."""
        margin = int(np.ceil(4 * self.spec.blur_um / self.spec.mpp)) + 1
        rows = max(0, y0 - margin), min(self.shape[0], y1 + margin)
        density, _ = compose(_within(self.things, rows), _within(self.whites, rows), rows, self.shape[1])
        brightness = light(self.spec, np.arange(*rows), self.shape[1])
        seen = photograph(density, brightness, self.spec, np.random.default_rng([self.spec.seed, 7, y0]))
        return seen[y0 - rows[0] : y1 - rows[0]]


def _within(placed: list[Placed], rows: tuple[int, int]) -> Iterator[Placed]:
    return (one for one in placed if one.top < rows[1] and one.top + one.stamp.cover.shape[0] > rows[0])


def _lay(spec: SmearSpec, shape: tuple[int, int], cells: int, seed: int) -> _Smear:
    rng = np.random.default_rng([seed, 8])
    border = min(round(12 / spec.mpp), min(shape) // 4)
    inner = shape[0] - 2 * border, shape[1] - 2 * border
    spots = [Spot(spot.label, spot.y + border, spot.x + border) for spot in scatter(spec, inner, cells, rng)]
    whites = draw_whites(spec, _seamed(spots, spec.mpp, rng), rng)
    return _Smear(spec, shape, whites, surround(spec, shape, whites, rng))


def _seamed(spots: list[Spot], mpp: float, rng: np.random.Generator) -> list[Spot]:
    """Move some cells onto a seam or a crossing of seams, if there is room."""
    moved = list(spots)
    for number in range(round(SEAM_SHARE * len(spots))):
        spot, seam = moved[number], SEAM_UM / mpp
        y, x = (max(1, round(place / seam)) * seam for place in (spot.y, spot.x))
        on_seam = [Spot(spot.label, spot.y, x), Spot(spot.label, y, spot.x), Spot(spot.label, y, x)]
        candidate = on_seam[int(rng.integers(3))]
        others = moved[:number] + moved[number + 1 :]
        if is_free(candidate, others, APART_UM / mpp):
            moved[number] = candidate
    return moved


def _write_pyramid(path: Path, smear: _Smear) -> None:
    height, width = smear.shape
    with tempfile.TemporaryDirectory() as scratch, tifffile.TiffWriter(path, bigtiff=height * width > 2**31) as file:
        small = np.memmap(Path(scratch) / "level1", np.uint8, "w+", shape=(height // SHRINK, width // SHRINK, 3))
        _write_level(file, _drawn_tiles(smear, small), smear.shape, 0, smear.spec)
        level: NDArray[np.uint8] = small
        for number in range(1, LEVELS):
            _write_level(file, _tiles_of(level), (level.shape[0], level.shape[1]), number, smear.spec)
            level = _shrunk(level)


def _write_level(
    file: tifffile.TiffWriter, tiles: Iterator[Rgb], shape: tuple[int, int], number: int, spec: SmearSpec
) -> None:
    file.write(
        tiles,
        shape=(*shape, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": spec.jpeg_quality},
        subfiletype=min(number, 1),
        resolution=(1e4 / (spec.mpp * SHRINK**number),) * 2,
        resolutionunit="CENTIMETER",
        metadata=None,
    )


def _drawn_tiles(smear: _Smear, small: NDArray[np.uint8]) -> Iterator[Rgb]:
    for y0 in range(0, smear.shape[0], TILE):
        strip = smear.strip(y0, min(y0 + TILE, smear.shape[0]))
        shrunk = _shrunk(strip)
        small[y0 // SHRINK : y0 // SHRINK + len(shrunk)] = shrunk
        yield from _row_of_tiles(strip)


def _tiles_of(level: NDArray[np.uint8]) -> Iterator[Rgb]:
    for y0 in range(0, len(level), TILE):
        yield from _row_of_tiles(level[y0 : y0 + TILE])


def _row_of_tiles(strip: NDArray[np.uint8]) -> Iterator[Rgb]:
    for x0 in range(0, strip.shape[1], TILE):
        tile = strip[:, x0 : x0 + TILE]
        yield np.pad(tile, ((0, TILE - tile.shape[0]), (0, TILE - tile.shape[1]), (0, 0)), "edge")


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[0] // SHRINK, image.shape[1] // SHRINK
    whole = np.ascontiguousarray(image[: height * SHRINK, : width * SHRINK])
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)) if height else whole[:0, :width]


def _table(cells: tuple[TrueCell, ...], mpp: float) -> pa.Table:
    boxes = np.array([cell.box for cell in cells], np.float64).reshape(-1, 4)
    y, x = np.array([cell.centroid for cell in cells], np.float64).reshape(-1, 2).T
    columns = {"label": pa.array([cell.label for cell in cells], pa.string()), "x": x, "y": y}
    columns |= {name: boxes[:, place] for name, place in {"x0": 1, "y0": 0, "x1": 3, "y1": 2}.items()}
    columns |= {"x_um": x * mpp, "y_um": y * mpp}
    columns |= {name: [getattr(cell, name) for cell in cells] for name in ("area_um2", "nucleus_area_um2")}
    return pa.table(columns)
