"""What is settled before slides are read, and what a failing service does to a batch."""

from contextlib import closing
from types import SimpleNamespace

import pytest

from sgcldff.core.errors import ServiceError, SlideError, TaskLostError
from sgcldff.core.locks import locked
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import Engine, InferSpec, Precision
from sgcldff.results.slide import SlideJob
from sgcldff.slides import SlideEntry
from tasks.batch import read_slides
from tasks.compute import Compute, Workers
from tasks.slides import on_these_workers, read_slide

MACHINE = "sgcldff.models.runtimes.hardware"


def test_emulated_bf16_is_read_with_and_warned_of_once(monkeypatch, caplog):
    monkeypatch.setattr(f"{MACHINE}.gpu_usable", lambda: False)
    monkeypatch.setattr(f"{MACHINE}.processor_flags", lambda: {"avx2"})
    here = Workers(Compute(workers=0), here=True)
    asked = InferSpec(engine=Engine.TORCH, precision=Precision.BF16)
    assert on_these_workers(asked, here) == asked
    (told,) = [record.getMessage() for record in caplog.records]
    assert "about 9 times as long as fp32" in told
    caplog.clear()
    assert on_these_workers(InferSpec(engine=Engine.TORCH), here).precision is Precision.FP32
    assert not caplog.records


def batch(tmp_path):
    job = SlideJob(SlideEntry("/gone.tif", None, "gone"), "/model", ModelRef("m", "1", "d"), str(tmp_path), InferSpec())
    return [job, job]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_service_that_fails_ends_the_batch_and_makes_no_slide_a_bad_one(tmp_path, monkeypatch, workers):
    failure = ServiceError("the scheduler is gone")
    monkeypatch.setattr(read_slide, "attempt", lambda *_: failure)
    with closing(Workers(Compute(workers=workers), here=not workers)) as found, pytest.raises(ServiceError) as raised:
        read_slides(batch(tmp_path), found, SimpleNamespace(skip=pytest.fail), pytest.fail)
    assert raised.value is failure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [SlideError("no slide"), TaskLostError("4 workers died")])
def test_a_slide_that_cannot_be_read_is_skipped(tmp_path, monkeypatch, error):
    monkeypatch.setattr(read_slide, "attempt", lambda *_: error)
    skipped, ended = [], []
    view = SimpleNamespace(skip=lambda *told: skipped.append(told))
    with closing(Workers(Compute(workers=0), here=True)) as found:
        assert read_slides(batch(tmp_path), found, view, ended.append) == {"gone": error}
    assert skipped == [("gone", str(error))] * 2
    assert ended == ["gone"] * 2


def test_a_slide_that_another_process_is_reading_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("sgcldff.results.folder.PATIENCE_S", 0.1)
    (job, _) = batch(tmp_path)
    with locked(job.folder / ".lock"), pytest.raises(ServiceError, match="another process has held this lock"):
        read_slide.fn(job, Workers(Compute(workers=0), here=True), SimpleNamespace(slide=print, announce=print))
    assert [path.name for path in job.folder.iterdir()] == [".lock"]
