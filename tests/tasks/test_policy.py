"""Which failures are worth another try."""

import pytest
from prefect import Task
from prefect.states import Failed, exception_to_failed_state

from sgcldff.cluster import TaskLostError
from sgcldff.errors import (
    InputError,
    LabelError,
    MissingInputError,
    PromotionRefusedError,
    ServiceError,
    SlideError,
    StoreError,
)
from tasks import modelling, preparing, slides
from tasks.policy import worth_retrying


async def failed(error: BaseException) -> Failed:
    """Give the state in which a task ends that raised."""
    return await exception_to_failed_state(error)


@pytest.mark.parametrize("error", [ServiceError("down"), ConnectionError("reset"), OSError("no space left")])
def test_what_may_pass_is_tried_again(error):
    state = Failed(data=error)
    assert worth_retrying(None, None, state)


def test_what_took_workers_down_is_not():
    assert not worth_retrying(None, None, Failed(data=TaskLostError("4 workers died")))


@pytest.mark.parametrize(
    "kind", [InputError, MissingInputError, SlideError, LabelError, StoreError, PromotionRefusedError, KeyError]
)
def test_what_stays_bad_is_not(kind):
    assert not worth_retrying(None, None, Failed(data=kind("bad")))


def test_every_task_follows_the_policy():
    rooms = (modelling, preparing, slides)
    found = [item for room in rooms for item in vars(room).values() if isinstance(item, Task)]
    assert len(found) >= 7
    for task in found:
        assert task.retries == 2
        assert task.retry_condition_fn is worth_retrying
        assert task.persist_result is False
        assert task.tags, f"{task.name} has no tag for work queues"
