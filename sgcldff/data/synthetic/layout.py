"""The layout of objects on a smear, and their composition into one image."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sgcldff.core.arrays import Floats
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.data.synthetic.cells import RECIPES, Stamp, white_cell
from sgcldff.data.synthetic.stain import SmearSpec, palette
from sgcldff.data.synthetic.surroundings import RED_RADIUS_UM, platelet, precipitate, red_cell

APART_UM = 18.0
"""Minimum distance between the centres of separate white cells."""
MAX_DISTINCT = 100
"""Number of different white cells per type, which limits memory on large slides."""
TOUCHING_SHARE = 0.04
"""Share of white cells that touch another one."""


class Spot(NamedTuple):
    """A white cell to be drawn: its type and centre, px."""

    label: str
    y: float
    x: float


class Placed(NamedTuple):
    """A stamp and the position of its top left corner, px (which may be outside the image)."""

    stamp: Stamp
    top: int
    left: int


@dataclass(frozen=True)
class StampLibrary:
    """Objects of one smear that are drawn once and placed many times, rotated and mirrored."""

    red: tuple[Stamp, ...]
    platelets: tuple[Stamp, ...]
    specks: tuple[Stamp, ...]


@lru_cache(maxsize=4)
def library(spec: SmearSpec) -> StampLibrary:
    """Draw a smear's red cells, platelets and specks; the same spec gives the same ones."""
    rng, colours = np.random.default_rng([spec.seed, 4]), palette(spec)
    return StampLibrary(
        tuple(red_cell(colours, spec.mpp, rng) for _ in range(48)),
        tuple(platelet(colours, spec.mpp, rng) for _ in range(10)),
        tuple(precipitate(colours, spec.mpp, rng) for _ in range(6)),
    )


def turned(stamp: Stamp, turn: int) -> Stamp:
    """Return a stamp in one of eight orientations (quarter turns, mirrored from 4), as views."""
    step = -1 if turn >= 4 else 1
    density, cover = np.rot90(stamp.density, turn % 4)[:, ::step], np.rot90(stamp.cover, turn % 4)[:, ::step]
    return Stamp(density, cover, np.rot90(stamp.mask, turn % 4)[:, ::step], stamp.label)


def centred(stamp: Stamp, y: float, x: float) -> Placed:
    """Place a stamp with its centre at (y, x)."""
    height, width = stamp.cover.shape
    return Placed(stamp, round(y - height / 2), round(x - width / 2))


def scatter(spec: SmearSpec, shape: tuple[int, int], count: int, rng: np.random.Generator) -> list[Spot]:
    """Scatter up to `count` white cells over `shape` px: nearly all separate, a few touching another one."""
    spots: list[Spot] = []
    shares = np.array(spec.shares) / sum(spec.shares)
    for _ in range(20 * count):
        if len(spots) == count:
            break
        label = str(rng.choice(FIVE_TYPES, p=shares))
        touching = bool(spots) and rng.random() < TOUCHING_SHARE
        spot = _beside(spots, label, spec.mpp, rng) if touching else Spot(label, *rng.uniform((0, 0), shape))
        inside = 0 <= spot.y < shape[0] and 0 <= spot.x < shape[1]
        if inside and is_free(spot, spots, (11.0 if touching else APART_UM) / spec.mpp):
            spots.append(spot)
    return spots


def _beside(spots: Sequence[Spot], label: str, mpp: float, rng: np.random.Generator) -> Spot:
    other = spots[int(rng.integers(len(spots)))]
    reach = (RECIPES[label].radius_um[1] + RECIPES[other.label].radius_um[1]) * rng.uniform(0.92, 1.0) / mpp
    turn = rng.uniform(0, 2 * np.pi)
    return Spot(label, other.y + reach * float(np.sin(turn)), other.x + reach * float(np.cos(turn)))


def is_free(spot: Spot, spots: Iterable[Spot], apart_px: float) -> bool:
    """Return whether no other centre is closer than `apart_px`."""
    return all(math.hypot(spot.y - other.y, spot.x - other.x) >= apart_px for other in spots)


def draw_whites(spec: SmearSpec, spots: Iterable[Spot], rng: np.random.Generator) -> list[Placed]:
    """Place a white cell at every spot: up to `MAX_DISTINCT` per type are drawn, then reused rotated."""
    colours = palette(spec)
    drawn: dict[str, list[Stamp]] = {}
    placed = []
    for spot in spots:
        of_type = drawn.setdefault(spot.label, [])
        if len(of_type) < MAX_DISTINCT:
            stamp = white_cell(spot.label, colours, spec.mpp, rng)
            of_type.append(stamp)
        else:
            stamp = turned(of_type[int(rng.integers(MAX_DISTINCT))], int(rng.integers(8)))
        placed.append(centred(stamp, spot.y, spot.x))
    return placed


def surround(
    spec: SmearSpec, shape: tuple[int, int], whites: Sequence[Placed], rng: np.random.Generator
) -> list[Placed]:
    """Place red cells, platelets and specks over `shape` px, leaving room for the white cells."""
    stamps = library(spec)
    red = _clear_of(_lattice(spec, shape, rng), whites, 0.6 * RED_RADIUS_UM / spec.mpp)
    area_mm2 = shape[0] * shape[1] * spec.mpp**2 / 1e6
    platelets = _clear_of(_uniform(shape, rng.poisson(900 * area_mm2), rng), whites, 1.0 / spec.mpp)
    specks = _uniform(shape, rng.poisson(120 * area_mm2), rng)
    return [
        *_placed(stamps.red, red, rng),
        *_placed(stamps.platelets, platelets, rng),
        *_placed(stamps.specks, specks, rng),
    ]


def _placed(stamps: Sequence[Stamp], centres: Floats, rng: np.random.Generator) -> list[Placed]:
    kinds, turns = rng.integers(len(stamps), size=len(centres)), rng.integers(8, size=len(centres))
    return [centred(turned(stamps[kind], turn), y, x) for (y, x), kind, turn in zip(centres, kinds, turns, strict=True)]


def _uniform(shape: tuple[int, int], count: int, rng: np.random.Generator) -> Floats:
    return rng.uniform((0, 0), shape, (count, 2)).astype(np.float32)


def _lattice(spec: SmearSpec, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return the centres of red cells, shape (N, 2): a jittered lattice, thinned in slow waves so that gaps open."""
    if spec.red_coverage == 0:
        return np.zeros((0, 2), np.float32)
    step = RED_RADIUS_UM / spec.mpp * float(np.sqrt(np.pi * 0.78 / spec.red_coverage))
    margin = 2 * step
    rows, columns = np.arange(-margin, shape[0] + margin, step), np.arange(-margin, shape[1] + margin, step)
    y, x = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
    x = x + np.where(np.round((y + margin) / step) % 2, step / 2, 0)
    centres = np.stack([y, x], axis=1) + rng.normal(0, 0.24 * step, (len(y), 2))
    phase = rng.uniform(0, 2 * np.pi, 4)
    waves = [
        np.sin(2 * np.pi * spec.mpp * (centres @ np.array([np.sin(angle), np.cos(angle)])) / um + shift)
        for angle, um, shift in ((phase[0], 47.0, phase[1]), (phase[0] + 1.9, 83.0, phase[2]))
    ]
    return np.asarray(centres[rng.random(len(y)) < 0.78 + 0.16 * np.sum(waves, axis=0)], np.float32)


def _clear_of(centres: Floats, whites: Sequence[Placed], margin_px: float) -> Floats:
    if not whites or len(centres) == 0:
        return centres
    sizes = np.array([white.stamp.cover.shape for white in whites])
    middles = np.array([(white.top, white.left) for white in whites]) + sizes / 2
    radii = np.sqrt([(white.stamp.mask > 0).sum() / np.pi for white in whites]) + margin_px
    taken = cKDTree(centres).query_ball_point(middles, radii)
    return np.delete(centres, np.unique(np.concatenate(taken).astype(int)), axis=0)


def compose(
    things: Iterable[Placed], whites: Iterable[Placed], rows: tuple[int, int], width: int
) -> tuple[Floats, NDArray[np.uint8]]:
    """Compose all objects on rows [rows[0], rows[1]) of the image, white cells on top.

    Returns
    -------
    density, mask
        Optical density, float32 (H, W, 3), and 0 background, 128 cytoplasm, 255 nucleus, uint8 (H, W).
    """
    density = np.zeros((rows[1] - rows[0], width, 3), np.float32)
    mask = np.zeros(density.shape[:2], np.uint8)
    for placed in things:
        if (slices := _overlap(placed, rows, width)) is not None:
            density[slices[0]] += placed.stamp.density[slices[1]]
    for placed in whites:
        if (slices := _overlap(placed, rows, width)) is not None:
            on, of = slices
            density[on] *= 1 - placed.stamp.cover[of][..., None]
            density[on] += placed.stamp.density[of]
            part = placed.stamp.mask[of]
            mask[on][part > 0] = part[part > 0]
    return density, mask


def _overlap(
    placed: Placed, rows: tuple[int, int], width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    height, breadth = placed.stamp.cover.shape
    y0, y1 = max(placed.top, rows[0]), min(placed.top + height, rows[1])
    x0, x1 = max(placed.left, 0), min(placed.left + breadth, width)
    if y0 >= y1 or x0 >= x1:
        return None
    on = slice(y0 - rows[0], y1 - rows[0]), slice(x0, x1)
    return on, (slice(y0 - placed.top, y1 - placed.top), slice(x0 - placed.left, x1 - placed.left))
