"""What the tests of tasks share."""

import pytest

from tests.tasks.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()
