"""Fixtures of the tests beside this file."""

import pytest

from sgcldff.slides import open_slide
from tests.sgcldff.painted import (
    CENTRES,
    SHAPE,
    paint,
    saved,
)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = saved(tmp_path_factory.mktemp("slide"), paint(SHAPE, CENTRES))
    with_scale = open_slide(path)
    yield with_scale
    with_scale.close()
