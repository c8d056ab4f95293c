"""What reading a slide takes, said before."""

from dataclasses import replace

import pytest

from sgcldff.core.tally import Tally
from sgcldff.inference import estimate_plan, plan_slide, read_cells, run_plan, serially
from tests.sgcldff.inference.reading import REFERENCE
from tests.sgcldff.painted import SPEC, ColourModel


def test_tiles_are_those_that_are_read_and_nothing_is_left(slide, tmp_path):
    model, tallies = ColourModel(), []
    plan = plan_slide(slide, model.spec, REFERENCE, replace(SPEC, shard_px=512), tmp_path)
    before = sorted(tmp_path.rglob("*"))
    told = estimate_plan(plan, model)
    assert sorted(tmp_path.rglob("*")) == before
    run_plan(plan, serially(model), tallies.append)
    done = sum(tallies, Tally())
    assert (told.tiles, told.skipped) == (done.tiles, done.skipped)
    assert told.share == pytest.approx(done.tiles / (done.tiles + done.skipped))
    assert told.cells == pytest.approx(len(list(read_cells(plan))), rel=0.5)
    assert min(told.core_s, told.memory_mb, told.disk_mb) > 0
