"""Which precision `auto` selects in training and inference, and the warning about emulated bf16."""

import logging
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from sgcldff.core.errors import InputError
from sgcldff.core.settings import TRAIN_PRECISIONS, Engine, ModelSpec, Precision, TrainSpec
from sgcldff.models.model import load_model
from sgcldff.models.runtimes import caution, resolve
from sgcldff.models.runtimes.hardware import computes_bf16, gpu_usable, processor_flags
from sgcldff.models.training.trainer import lightning_precision, run_precision, train
from tests.small import SMALL

MACHINE = "sgcldff.models.runtimes.hardware"
CAPS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
MODEL = ModelSpec(net=SMALL, crop_px=64)
SPEC = TrainSpec(epochs=2, batch_size=8)


@pytest.fixture
def processor(monkeypatch):
    """Return a function that simulates a processor with given flags, without GPU and instruction caps."""

    def pretend(*flags):
        monkeypatch.setattr(f"{MACHINE}.processor_flags", lambda: set(flags))

    for name in CAPS:
        monkeypatch.delenv(name, raising=False)
    for module in (MACHINE, "sgcldff.models.training.trainer"):
        monkeypatch.setattr(f"{module}.gpu_usable", lambda: False)
    return pretend


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that simulates a GPU of a given compute capability."""

    def pretend(capability):
        for module in (MACHINE, "sgcldff.models.training.trainer"):
            monkeypatch.setattr(f"{module}.gpu_usable", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: capability >= (8, 0))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)

    return pretend


@pytest.mark.parametrize(
    ("flags", "reads", "trains"),
    [
        ((), Precision.FP32, "32-true"),
        (("avx2",), Precision.FP32, "32-true"),
        (("avx2", "avx512f", "avx512_vnni"), Precision.FP32, "32-true"),
        (("avx2", "avx512f", "avx512_bf16"), Precision.BF16, "bf16-mixed"),
        (("amx_bf16",), Precision.BF16, "bf16-mixed"),
        (("bf16",), Precision.BF16, "bf16-mixed"),
    ],
)
def test_auto_is_the_fastest_precision_of_the_processor(processor, flags, reads, trains):
    processor(*flags)
    assert resolve(Engine.TORCH) == (Engine.TORCH, reads)
    assert resolve(Engine.OPENVINO) == (Engine.OPENVINO, reads)
    assert lightning_precision("auto", "auto") == lightning_precision("auto", "cpu") == trains


@pytest.mark.parametrize(
    ("name", "value", "bf16"),
    [
        ("ATEN_CPU_CAPABILITY", "avx2", False),
        ("ATEN_CPU_CAPABILITY", "default", False),
        ("ATEN_CPU_CAPABILITY", "avx512", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX2", False),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core_vnni", False),
        ("DNNL_MAX_CPU_ISA", "AVX512_CORE", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", True),
        ("ONEDNN_MAX_CPU_ISA", "DEFAULT", True),
        ("ONEDNN_MAX_CPU_ISA", "", True),
    ],
)
def test_a_cap_on_instructions_counts_where_the_processor_has_them(processor, monkeypatch, name, value, bf16):
    processor("amx_bf16", "avx512_bf16")
    monkeypatch.setenv(name, value)
    assert computes_bf16(on_gpu=False) == bf16
    assert (lightning_precision("auto", "cpu") == "bf16-mixed") == bf16


@pytest.mark.parametrize(
    ("capability", "reads", "trains"),
    [
        ((9, 0), Precision.BF16, "bf16-mixed"),
        ((8, 0), Precision.BF16, "bf16-mixed"),
        ((7, 5), Precision.FP16, "16-mixed"),
        ((6, 1), Precision.FP32, "32-true"),
    ],
)
def test_auto_is_the_fastest_precision_of_the_gpu_unless_the_processor_is_used(
    processor, gpu, capability, reads, trains
):
    processor("avx2")
    gpu(capability)
    assert resolve() == (Engine.TORCH, reads)
    assert lightning_precision("auto", "auto") == lightning_precision("auto", "gpu") == trains
    assert lightning_precision("auto", "cpu") == "32-true"
    assert resolve(Engine.OPENVINO) == (Engine.OPENVINO, Precision.FP32)


def test_openvino_is_chosen_where_it_was_measured_to_be_faster(processor, gpu, monkeypatch):
    processor()
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert resolve()[0] is Engine.OPENVINO
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert resolve()[0] is Engine.TORCH
    gpu((9, 0))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert resolve()[0] is Engine.TORCH


def test_detection_agrees_with_torch():
    assert gpu_usable() == torch.cuda.is_available()
    able = torch.cpu.get_capabilities()
    for flag in ("avx2", "avx512_bf16", "amx_bf16"):
        assert (flag in processor_flags()) == bool(able.get(flag, False))


@pytest.mark.parametrize("engine", [Engine.TORCH, Engine.COMPILED])
def test_emulated_bf16_is_used_after_a_warning_with_the_factor(processor, engine):
    processor("avx2")
    assert resolve(engine, Precision.BF16) == (engine, Precision.BF16)
    assert "about 9 times as long as fp32" in caution(engine, Precision.BF16)
    assert caution(engine, Precision.FP32) == ""
    processor("avx512_bf16")
    assert caution(engine, Precision.BF16) == ""


@pytest.mark.parametrize("engine", [Engine.OPENVINO, Engine.AUTO])
def test_bf16_that_openvino_would_silently_replace_is_refused(processor, monkeypatch, engine):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    processor("avx2")
    with pytest.raises(InputError, match=r"bf16: this processor does not support .*fp32 or auto"):
        resolve(engine, Precision.BF16)
    processor("amx_bf16")
    assert resolve(engine, Precision.BF16) == (Engine.OPENVINO, Precision.BF16)


@pytest.mark.parametrize("name", ["bf16", "fp32", "", "16-mixed "])
def test_an_unknown_training_precision_is_an_error_that_lists_the_valid_ones(name):
    with pytest.raises(InputError, match=r"TrainSpec\.precision is .*32-true, bf16-mixed"):
        TrainSpec(precision=name)
    assert all(TrainSpec(precision=known).precision == known for known in TRAIN_PRECISIONS)


class StopsAfterAnEpoch(Callback):
    """Simulates a crash after the first epoch, once its checkpoint is written."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


@pytest.mark.slow
def test_a_training_resumes_in_its_original_precision(smears, tmp_path, processor, caplog):
    catalog, priors = smears
    data = (catalog.samples, priors)
    processor("avx2")
    undisturbed = train(*data, MODEL, SPEC, tmp_path / "whole", None, "cpu")
    with pytest.raises(RuntimeError, match="killed"):
        train(*data, MODEL, SPEC, tmp_path / "stopped", [StopsAfterAnEpoch()], "cpu")
    processor("amx_bf16")
    resumed = train(*data, MODEL, SPEC, tmp_path / "stopped", None, "cpu")
    assert resumed.precision == undisturbed.precision == "32-true"
    assert load_model(resumed.folder).digest == load_model(undisturbed.folder).digest
    assert "bf16" not in caplog.text


def test_training_in_emulated_bf16_warns_with_the_factor(tmp_path, processor, caplog):
    processor("avx2")
    assert run_precision(tmp_path, "bf16-mixed", "cpu") == "bf16-mixed"
    assert "about 9 times as long as fp32" in caplog.text
    caplog.clear()
    processor("amx_bf16")
    assert run_precision(tmp_path, "bf16-mixed", "cpu") == "bf16-mixed"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_training_in_fp16_is_refused_without_a_gpu(smears, tmp_path, processor):
    catalog, priors = smears
    processor("avx2")
    with pytest.raises(InputError, match="16-mixed needs a GPU"):
        train(catalog.samples, priors, MODEL, replace(SPEC, precision="16-mixed"), tmp_path, None, "cpu")
