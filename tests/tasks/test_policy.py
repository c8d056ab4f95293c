"""Which failures are worth another try."""

import pytest
from prefect.states import Failed

from sgcldff.core.errors import (
    InputError,
    LabelError,
    MissingInputError,
    PromotionRefusedError,
    ServiceError,
    SlideError,
    StoreError,
    TaskLostError,
)
from tasks import data, evaluation, slides, stages, training
from tasks.policy import worth_retrying
from tasks.stages import Stage, should_retry, stage


@pytest.mark.parametrize("error", [ServiceError("down"), ConnectionError("reset"), OSError("no space left")])
def test_what_may_pass_is_tried_again(error):
    assert worth_retrying(error)
    assert should_retry(None, None, Failed(data=error))


def test_what_took_workers_down_is_not():
    assert not worth_retrying(TaskLostError("4 workers died"))


@pytest.mark.parametrize(
    "kind", [InputError, MissingInputError, SlideError, LabelError, StoreError, PromotionRefusedError, KeyError]
)
def test_what_stays_bad_is_not(kind):
    assert not worth_retrying(kind("bad"))
    assert not should_retry(None, None, Failed(data=kind("bad")))


def test_every_task_follows_the_policy():
    rooms = (evaluation, training, data, slides)
    found = [item.task for room in rooms for item in vars(room).values() if isinstance(item, Stage)]
    assert len(found) >= 7
    for task in found:
        assert task.retries == 2
        assert task.retry_condition_fn is should_retry
        assert task.persist_result is False
        assert task.tags, f"{task.name} has no tag for work queues"


def flaky(*errors: Exception) -> Stage[[], str]:
    """Give a stage that fails with each error in turn, and then ends well."""
    left = list(errors)

    @stage("flaky", ["data"])
    def step() -> str:
        """Fail as long as there is an error left."""
        if left:
            raise left.pop(0)
        return "done"

    return step


def test_without_a_flow_run_a_stage_is_tried_again_alike(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(stages.time, "sleep", waits.append)
    assert flaky(ServiceError("down"), OSError("reset"))() == "done"
    assert waits == [2, 20]
    with pytest.raises(ServiceError, match="third"):
        flaky(ServiceError("first"), ServiceError("second"), ServiceError("third"))()
    waits.clear()
    for error in (InputError("bad"), KeyError("bug"), TaskLostError("4 workers died"), SlideError("damaged")):
        with pytest.raises(type(error)):
            flaky(error, ServiceError("never reached"))()
    assert waits == []


def test_an_attempt_gives_the_error_in_place_of_the_result():
    error = KeyError("bug")
    assert flaky(error).attempt() is error
    assert flaky().attempt() == "done"
