"""What is settled before slides are read."""

from sgcldff.core.settings import Engine, InferSpec, Precision
from tasks.compute import Compute, Workers
from tasks.slides import on_these_workers

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
