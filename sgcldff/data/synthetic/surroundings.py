"""The surroundings of white cells: red cells, platelets and precipitated stain."""

import numpy as np

from sgcldff.core.arrays import Floats
from sgcldff.data.synthetic.cells import Stamp
from sgcldff.data.synthetic.shapes import blob, canvas, grains, soft
from sgcldff.data.synthetic.stain import Palette

RED_RADIUS_UM = 3.7


def red_cell(colours: Palette, mpp: float, rng: np.random.Generator) -> Stamp:
    """Draw a red cell: a biconcave disc, sometimes crenated, oval, without pale centre, or with a drying artefact."""
    radius = RED_RADIUS_UM * rng.normal(1, 0.07)
    area = canvas(1.5 * radius, mpp, rng.choice([0.08, 0.3], p=[0.9, 0.1]), rng)
    disc = blob(area, radius, 1 + abs(rng.normal(0, 0.14)), rng.choice([0.03, 0.1], p=[0.8, 0.2]))
    thick = _thickness(np.clip(1 - disc / radius, 0, 1), rng.uniform(0.35, 1.0))
    density = colours.dyes["haem"] * (0.36 * rng.normal(1, 0.09) * thick * soft(disc, 0.3))[..., None]
    if rng.random() < 0.06:
        y, x = rng.normal(0, 1, 2)
        mark = soft(blob(area, rng.uniform(0.3, 0.8), 1.2, 0.1, (y, x)), 0.3)
        density = density * (1 - 0.7 * mark)[..., None]
    return _bare(density, soft(disc, 0.3))


def _thickness(share: Floats, concavity: float) -> Floats:
    """Return a red cell's relative thickness at `share` of its radius (Evans and Fung 1972), flattened as it dries."""
    living = np.sqrt(np.maximum(1 - share**2, 0)) * (0.81 + 7.83 * share**2 - 4.39 * share**4) / 2.6
    dried = 0.85 * np.maximum(1 - share**8, 0) ** 0.25
    return np.asarray(concavity * np.maximum(living, 0.3 * dried) + (1 - concavity) * dried, np.float32)


def platelet(colours: Palette, mpp: float, rng: np.random.Generator) -> Stamp:
    """Draw a platelet: pale, ragged, with a granular centre."""
    radius = rng.uniform(0.9, 1.7)
    area = canvas(2 * radius, mpp, 0.15, rng)
    body = blob(area, radius, rng.uniform(1, 1.5), 0.15)
    middle = grains(area, body > 0.3 * radius, 0.22, 6.0)
    density = colours.mix({"azure": 0.3, "purple": 0.1}) * soft(body, 0.4)[..., None]
    density += colours.mix({"purple": 0.75}) * (middle * soft(body, 0.4))[..., None]
    return _bare(density, soft(body, 0.4))


def precipitate(colours: Palette, mpp: float, rng: np.random.Generator) -> Stamp:
    """Draw specks of precipitated stain."""
    area = canvas(rng.uniform(0.8, 2.5), mpp, 0.1, rng)
    reach = float(area.y.max())
    cloud = blob(area, 0.8 * reach, 1.3, 0.2)
    specks = grains(area, cloud > 0, rng.uniform(0.15, 0.4), rng.uniform(0.3, 1.2))
    return _bare(colours.mix({"violet": 0.9}) * specks[..., None], specks)


def _bare(density: Floats, cover: Floats) -> Stamp:
    return Stamp(np.asarray(density, np.float32), cover, np.zeros(cover.shape, np.uint8))
