"""White cells of the five types, drawn from recipes in um.

Sizes and appearance follow Bain, "Blood Cells: A Practical Guide" (nuclear lobes, granules, cytoplasm of each type).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Floats
from sgcldff.core.labels import BASOPHIL, EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL
from sgcldff.data.synthetic.shapes import Canvas, blob, canvas, grains, soft, string
from sgcldff.data.synthetic.stain import Palette

CYTOPLASM_GREY, NUCLEUS_GREY = 128, 255
EDGE_UM = 0.35


@dataclass(frozen=True)
class Stamp:
    """A drawn object, ready to be placed on a smear."""

    density: Floats
    """Optical density, shape (H, W, 3)."""
    cover: Floats
    """Opacity, 0 to 1, shape (H, W)."""
    mask: NDArray[np.uint8]
    """0 background, 128 cytoplasm, 255 nucleus; all 0 unless it is a white cell. Shape (H, W)."""
    label: str | None = None
    """Cell type, for white cells."""


@dataclass(frozen=True)
class Granules:
    """Granules in the cytoplasm, or over the whole cell."""

    radius_um: float
    per_um2: float
    colour: Mapping[str, float]
    over_nucleus: float = 0.0
    """Density of granules over the nucleus, relative to those beside it."""


@dataclass(frozen=True)
class Recipe:
    """How cells of one type are drawn."""

    radius_um: tuple[float, float]
    nucleus: Callable[[Canvas, float], Floats]
    """Depth of the nucleus in a cell of the given radius."""
    cytoplasm: Mapping[str, float]
    chromatin: tuple[float, float, float]
    """Density, contrast of its clumps, and their size in um."""
    granules: tuple[Granules, ...] = ()
    rim: float = 0.0
    """How much darker the cytoplasm is at its border."""
    vacuoles: float = 0.0
    """Vacuoles per um2."""
    roughness: float = 0.06
    elongation: tuple[float, float] = (1.0, 1.2)
    mottle: float = 0.12
    """Contrast of the cytoplasm's clouds."""


def _arc(area: Canvas, count: int, sweep: float, radius: float, jitter: float) -> list[tuple[float, float]]:
    start, sign = area.rng.uniform(0, 2 * np.pi), area.rng.choice([-1, 1])
    angles = start + sign * sweep * np.linspace(0, 1, count)
    reach = radius * area.rng.uniform(1 - jitter, 1 + jitter, count)
    return [(r * float(np.sin(a)), r * float(np.cos(a))) for a, r in zip(angles, reach, strict=True)]


def _strung(area: Canvas, centres: list[tuple[float, float]], sizes: NDArray[np.float64], strand: float) -> Floats:
    strands = string(area, centres, [strand] * len(centres))
    lobes = [
        blob(area, size, area.rng.uniform(1.0, 1.45), 0.12, centre) for centre, size in zip(centres, sizes, strict=True)
    ]
    return np.asarray(np.maximum.reduce([strands, *lobes]), np.float32)


def _segmented(area: Canvas, radius: float) -> Floats:
    """Draw two to five lobes on a curved string; occasionally an unsegmented band."""
    count = int(area.rng.choice([1, 2, 3, 4, 5], p=[0.1, 0.14, 0.38, 0.28, 0.1]))
    if count == 1:
        centres = _arc(area, 9, area.rng.uniform(2.6, 4.2), 0.5 * radius, 0.06)
        return string(area, centres, list(radius * area.rng.uniform(0.18, 0.25, 9)))
    sweep = {2: 2.2, 3: 3.6, 4: 4.6, 5: 5.2}[count] * area.rng.uniform(0.85, 1.05)
    centres = _arc(area, count, sweep, 0.5 * radius, 0.2)
    size = {2: 0.4, 3: 0.34, 4: 0.3, 5: 0.27}[count]
    return _strung(area, centres, radius * size * area.rng.uniform(0.85, 1.15, count), area.rng.uniform(0.22, 0.5))


def _bilobed(area: Canvas, radius: float) -> Floats:
    """Draw two plump lobes (rarely three) like spectacles."""
    count = 2 if area.rng.random() < 0.85 else 3
    centres = _arc(area, count, area.rng.uniform(1.9, 2.6), 0.5 * radius, 0.1)
    return _strung(area, centres, radius * area.rng.uniform(0.37, 0.45, count), area.rng.uniform(0.4, 0.8))


def _obscured(area: Canvas, radius: float) -> Floats:
    """Draw a large, bluntly lobed nucleus under the granules."""
    centres = _arc(area, 3, area.rng.uniform(2.2, 3.4), 0.32 * radius, 0.15)
    return _strung(area, centres, radius * area.rng.uniform(0.42, 0.52, 3), 0.3 * radius)


def _round(area: Canvas, radius: float) -> Floats:
    """Draw a round nucleus that nearly fills the cell, sometimes slightly dented."""
    share = area.rng.uniform(0.76, 0.92)
    turn, off = area.rng.uniform(0, 2 * np.pi), (0.94 - share) * radius * area.rng.uniform(0.3, 1.0)
    body = blob(area, share * radius, area.rng.uniform(1.0, 1.12), 0.04, (off * np.sin(turn), off * np.cos(turn)))
    if area.rng.random() < 0.7:
        return body
    dent = blob(area, 0.35 * radius, 1.0, 0.05, (radius * np.sin(turn + 2.5), radius * np.cos(turn + 2.5)))
    return np.minimum(body, -dent)


def _kidney(area: Canvas, radius: float) -> Floats:
    """Draw a large folded nucleus: kidney, horseshoe or nearly oval."""
    sweep = area.rng.uniform(1.4, 3.6)
    reach = area.rng.uniform(0.34, 0.46) * radius
    centres = _arc(area, 7, sweep, reach, 0.08)
    thick = radius * (0.46 - 0.045 * sweep) * area.rng.uniform(0.85, 1.15, 7)
    return string(area, centres, list(thick))


RECIPES: Mapping[str, Recipe] = {
    NEUTROPHIL: Recipe(
        radius_um=(5.8, 7.4),
        nucleus=_segmented,
        cytoplasm={"purple": 0.15, "azure": 0.05, "eosin": 0.05},
        chromatin=(0.92, 0.24, 0.5),
        granules=(Granules(0.14, 2.6, {"purple": 0.5}),),
        elongation=(1.0, 1.3),
    ),
    EOSINOPHIL: Recipe(
        radius_um=(6.2, 7.8),
        nucleus=_bilobed,
        cytoplasm={"azure": 0.18, "eosin": 0.25},
        chromatin=(0.82, 0.22, 0.5),
        granules=(Granules(0.42, 2.3, {"eosin": 0.85}, over_nucleus=0.12),),
    ),
    BASOPHIL: Recipe(
        radius_um=(5.2, 6.8),
        nucleus=_obscured,
        cytoplasm={"purple": 0.5, "azure": 0.1},
        chromatin=(0.62, 0.12, 0.6),
        granules=(
            Granules(0.42, 1.9, {"violet": 0.8, "purple": 0.4}, over_nucleus=0.7),
            Granules(0.36, 1.0, {"purple": 0.7, "eosin": 0.2}, over_nucleus=0.5),
        ),
    ),
    LYMPHOCYTE: Recipe(
        radius_um=(4.2, 6.4),
        nucleus=_round,
        cytoplasm={"azure": 0.85},
        chromatin=(1.0, 0.22, 0.75),
        rim=0.4,
        roughness=0.045,
    ),
    MONOCYTE: Recipe(
        radius_um=(7.2, 9.4),
        nucleus=_kidney,
        cytoplasm={"azure": 0.34, "purple": 0.16, "eosin": 0.04},
        chromatin=(0.72, 0.26, 0.3),
        granules=(Granules(0.12, 1.2, {"purple": 0.3}),),
        rim=0.15,
        vacuoles=0.06,
        roughness=0.13,
        elongation=(1.0, 1.35),
        mottle=0.2,
    ),
}
"""How each type is drawn."""


def white_cell(label: str, colours: Palette, mpp: float, rng: np.random.Generator) -> Stamp:
    """Draw one white cell of the given type."""
    recipe = RECIPES[label]
    radius = rng.uniform(*recipe.radius_um)
    area = canvas(1.55 * radius, mpp, 0.22, rng)
    cell = blob(area, radius, rng.uniform(*recipe.elongation), recipe.roughness)
    nucleus = np.minimum(recipe.nucleus(area, radius), cell - 0.3)
    density = _painted(recipe, colours, area, cell, nucleus)
    mask = np.where(nucleus > 0, NUCLEUS_GREY, np.where(cell > 0, CYTOPLASM_GREY, 0)).astype(np.uint8)
    return _trimmed(Stamp(density, 0.92 * soft(cell, EDGE_UM), mask, label))


def _painted(recipe: Recipe, colours: Palette, area: Canvas, cell: Floats, nucleus: Floats) -> Floats:
    inside = soft(nucleus, EDGE_UM)
    plasm = colours.mix(recipe.cytoplasm) * _clouds(recipe, area, cell)[..., None]
    density = plasm * (1 - inside)[..., None]
    density += colours.dyes["violet"] * (_chromatin(recipe, area, nucleus) * inside)[..., None]
    for kind in recipe.granules:
        beside = grains(area, (cell > 0.1) & (nucleus < 0), kind.radius_um, kind.per_um2) * (1 - inside)
        over = grains(area, nucleus > 0, kind.radius_um, kind.per_um2 * kind.over_nucleus)
        density += colours.mix(kind.colour) * np.minimum(beside + over, 1)[..., None]
    return np.asarray(density * soft(cell, EDGE_UM)[..., None], np.float32)


def _clouds(recipe: Recipe, area: Canvas, cell: Floats) -> Floats:
    rim = recipe.rim * np.exp(-np.maximum(cell, 0) / 0.7)
    clouds = 1 + recipe.mottle * area.noise(0.9) + rim
    if recipe.vacuoles:
        clouds = clouds * (1 - 0.75 * grains(area, cell > 0.6, area.rng.uniform(0.3, 0.55), recipe.vacuoles))
    return np.asarray(np.maximum(clouds, 0), np.float32)


def _chromatin(recipe: Recipe, area: Canvas, nucleus: Floats) -> Floats:
    level, contrast, clump_um = recipe.chromatin
    membrane = 0.12 * np.exp(-np.maximum(nucleus, 0) / 0.3)
    texture = contrast * (0.75 * area.noise(clump_um) + 0.4 * area.noise(clump_um / 2.5))
    return np.asarray(level * area.rng.uniform(0.88, 1.12) * np.maximum(1 + texture + membrane, 0.2), np.float32)


def _trimmed(stamp: Stamp) -> Stamp:
    """Crop a stamp to the box that it covers."""
    rows, columns = np.flatnonzero(stamp.cover.any(axis=1)), np.flatnonzero(stamp.cover.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Stamp(stamp.density[box], stamp.cover[box], stamp.mask[box], stamp.label)
