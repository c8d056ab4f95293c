"""Which engine and which numbers a machine offers."""

import platform
from importlib.util import find_spec

import torch

from sgcldff.specs import Engine, Precision, require

MEASURED = ("x86_64", "AMD64")
"""Processors on which OpenVINO was seen to be faster than torch."""
BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
"""Names under which processors state that they compute with bf16."""


def fastest(engine: Engine, precision: Precision) -> tuple[Engine, Precision]:
    """Replace `AUTO` by what this machine runs fastest.

    Raises
    ------
    InputError
        If the machine lacks what is asked for.
    """
    chosen = _engine(engine)
    return chosen, _precision(precision, on_gpu=chosen is Engine.TORCH and torch.cuda.is_available())


def _engine(engine: Engine) -> Engine:
    installed = find_spec("openvino") is not None
    if engine is Engine.AUTO:
        faster = installed and platform.machine() in MEASURED and not torch.cuda.is_available()
        return Engine.OPENVINO if faster else Engine.TORCH
    there = engine is not Engine.OPENVINO or installed
    require(there, "engine openvino is not installed: install the package openvino, or give the engine torch or auto")
    return engine


def _precision(precision: Precision, *, on_gpu: bool) -> Precision:
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else _processor_has_bf16()
    if precision is Precision.AUTO:
        return Precision.BF16 if bf16 else Precision.FP32
    here = "this GPU" if on_gpu else "this processor"
    if precision is Precision.BF16:
        require(bf16, f"precision bf16: {here} does not compute with it in hardware; give the precision fp32 or auto")
    if precision is Precision.FP16:
        require(on_gpu, "precision fp16 needs a GPU and the engine torch: give the precision bf16, fp32 or auto")
    return precision


def _processor_has_bf16() -> bool:
    able = torch.cpu.get_capabilities()
    return any(able.get(flag, False) for flag in BF16_FLAGS)
