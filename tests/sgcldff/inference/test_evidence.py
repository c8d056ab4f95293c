"""What speaks for a type lies on the cell or beside it: an oracle, painted slides, and as a reason not to classify."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.geometry import Box
from sgcldff.core.records import ELSEWHERE, UNIDENTIFIED
from sgcldff.inference import committed_work
from sgcldff.inference.classification import read_cells
from sgcldff.inference.evidence import evidence_of
from sgcldff.inference.instances import Cell
from tests.sgcldff.inference.reading import inferred
from tests.sgcldff.painted import SPEC, ColourModel

CROP = Box(100, 40, 196, 136)


def square(y0: int, x0: int, side: int) -> Cell:
    """Return a square cell."""
    outline = np.array([(x0, y0), (x0 + side - 1, y0), (x0 + side - 1, y0 + side - 1), (x0, y0 + side - 1)], float)
    middle = (y0 + side / 2, x0 + side / 2)
    return Cell(middle, Box(y0, x0, y0 + side, x0 + side), side * side, 0, outline, ())


CELL = square(124, 64, 48)
"""In the middle of `CROP`, and a quarter of it."""
ON_CELL = np.zeros((12, 12), np.float32)
ON_CELL[3:9, 3:9] = 1


@pytest.mark.parametrize(("contribution", "expected"), [(ON_CELL, 1), (1 + 0 * ON_CELL, 0), (1 - ON_CELL, -1 / 3)])
def test_the_share_on_the_cell_is_corrected_for_chance(contribution: np.ndarray, expected: float) -> None:
    assert evidence_of(contribution, CELL, CROP).on_cell == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_shares_do_not_depend_on_the_logits_size_and_mix_in_proportion(seed: int, size: float) -> None:
    random = np.random.default_rng(seed).random((12, 12), dtype=np.float32)
    on_cell = evidence_of(random, CELL, CROP).on_cell
    expected = (random * ON_CELL).sum() / random.sum()
    assert on_cell == pytest.approx((expected - 0.25) / 0.75, abs=1e-5)
    again = evidence_of(random * np.float32(size), CELL, CROP)
    assert again.on_cell == pytest.approx(on_cell, abs=1e-5)
    assert again.map.max() == 255
    np.testing.assert_allclose(again.map / 255, random / random.max(), atol=0.003)


def test_where_nothing_speaks_for_the_type_nothing_is_said() -> None:
    nothing = evidence_of(np.zeros((12, 12), np.float32), CELL, CROP)
    assert nothing.on_cell is None
    assert not nothing.map.any()


class Beside(ColourModel):
    """Reads types from the frame of the crop, where other things lie."""

    def classify(self, rgb, prior):
        types = super().classify(rgb, prior)
        frame = np.pad(np.zeros((10, 10), np.float32), 1, constant_values=1)
        return types._replace(contribution=np.broadcast_to(frame, (len(rgb), 12, 12)))


def test_cells_read_from_beside_them_are_not_classified_if_that_is_asked_for_and_it_costs_no_work(slide, tmp_path):
    plain = list(read_cells(inferred(slide, tmp_path, SPEC, Beside())))
    assert plain
    assert all(cell.on_cell < 0 and cell.label != UNIDENTIFIED for cell in plain)
    again = Beside()
    plan = inferred(slide, tmp_path, replace(SPEC, min_on_cell=0.0), again)
    assert {(cell.label, cell.abstained_for) for cell in read_cells(plan)} == {(UNIDENTIFIED, ELSEWHERE)}
    assert (again.tiles, again.crops) == (0, 0)
    assert plan.abstains
    assert set(committed_work(plan).cells) == {UNIDENTIFIED}
