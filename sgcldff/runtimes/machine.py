"""Which engine and which numbers a machine offers, told without torch where there can be no GPU."""

import platform
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from sgcldff.specs import Engine, Precision, require

MEASURED = ("x86_64", "AMD64")
"""Processors on which OpenVINO was seen to be faster than torch."""
BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
"""Names under which processors state that they compute with bf16."""
GPU_DEVICES = ("nvidia[0-9]*", "dxg", "kfd")
"""Files in `/dev` of GPUs of NVIDIA, of those that Windows lends to Linux, and of AMD's."""
COMPILERS = ("g++", "c++", "clang++")
CPUINFO = Path("/proc/cpuinfo")


def fastest(engine: Engine, precision: Precision) -> tuple[Engine, Precision]:
    """Replace `AUTO` by what this machine runs fastest.

    Raises
    ------
    InputError
        If the machine lacks what is asked for.
    """
    chosen = _engine(engine)
    return chosen, _precision(precision, on_gpu=chosen is not Engine.OPENVINO and gpu_usable())


def gpu_usable() -> bool:
    """Tell whether torch computes on a GPU here."""
    if platform.system() == "Linux" and not any(any(Path("/dev").glob(name)) for name in GPU_DEVICES):
        return False
    import torch

    return torch.cuda.is_available()


def processor_flags() -> set[str]:
    """Name what the processor can do, as Linux does, or torch where Linux does not run."""
    if CPUINFO.exists():
        lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
        return {flag for name, _, flags in lines if name.strip() in ("flags", "Features") for flag in flags.split()}
    import torch

    return {flag for flag, able in torch.cpu.get_capabilities().items() if able is True}


def _engine(engine: Engine) -> Engine:
    installed = find_spec("openvino") is not None
    if engine is Engine.AUTO:
        faster = installed and platform.machine() in MEASURED and not gpu_usable()
        return Engine.OPENVINO if faster else Engine.TORCH
    there = engine is not Engine.OPENVINO or installed
    require(there, "engine openvino is not installed: install the package openvino, or give the engine torch or auto")
    compiles = engine is not Engine.COMPILED or any(which(name) for name in COMPILERS)
    require(
        compiles, f"engine compiled finds no C compiler ({', '.join(COMPILERS)}): install one, or give another engine"
    )
    return engine


def _precision(precision: Precision, *, on_gpu: bool) -> Precision:
    bf16 = _gpu_has_bf16() if on_gpu else not BF16_FLAGS.isdisjoint(processor_flags())
    if precision is Precision.AUTO:
        return Precision.BF16 if bf16 else Precision.FP32
    here = "this GPU" if on_gpu else "this processor"
    if precision is Precision.BF16:
        require(bf16, f"precision bf16: {here} does not compute with it in hardware; give the precision fp32 or auto")
    if precision is Precision.FP16:
        require(on_gpu, "precision fp16 needs a GPU and the engine torch: give the precision bf16, fp32 or auto")
    return precision


def _gpu_has_bf16() -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
