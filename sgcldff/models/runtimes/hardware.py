"""The fastest engine and precision of a machine, determined without torch if there cannot be a GPU."""

import os
import platform
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from sgcldff.core.settings import Engine, Precision, require

OPENVINO_MACHINES = ("x86_64", "AMD64")
"""Architectures on which OpenVINO was measured to be faster than torch."""
BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
"""Processor flags for bf16 arithmetic."""
ONEDNN_CAPS = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
ISA_CAPS = {
    "ATEN_CPU_CAPABILITY": {"DEFAULT", "AVX2"},
    "ONEDNN_MAX_CPU_ISA": ONEDNN_CAPS,
    "DNNL_MAX_CPU_ISA": ONEDNN_CAPS,
}
"""Variables that restrict the instructions that libraries use, with the values that rule out bf16."""
EMULATION_FACTOR = 9
"""Duration of emulated bf16 as a multiple of fp32; measured with AVX2: 8.4 for training, 9.9 for inference."""
TENSOR_CORES = (7, 0)
"""Compute capability from which NVIDIA GPUs are faster in fp16 than in fp32."""
GPU_DEVICES = ("nvidia[0-9]*", "dxg", "kfd")
"""Files in `/dev` of GPUs: NVIDIA's, those that Windows shares with Linux, and AMD's."""
COMPILERS = ("g++", "c++", "clang++")
CPUINFO = Path("/proc/cpuinfo")


def resolve(engine: Engine = Engine.AUTO, precision: Precision = Precision.AUTO) -> tuple[Engine, Precision]:
    """Replace `AUTO` by the fastest choice for reading slides on this machine; no model is loaded.

    Raises
    ------
    InputError
        If the machine does not support the requested engine or precision.
    """
    chosen = _engine(engine)
    on_gpu = _on_gpu(chosen)
    if precision is Precision.AUTO:
        return chosen, fastest_precision(on_gpu=on_gpu)
    if precision is Precision.BF16 and chosen is Engine.OPENVINO:
        require(
            computes_bf16(on_gpu=False),
            "precision bf16: this processor does not support bf16, and OpenVINO would silently use fp32; use the "
            "precision fp32 or auto, or the engine torch, which emulates bf16",
        )
    if precision is Precision.FP16:
        require(on_gpu, "precision fp16 needs a GPU and the engine torch: use the precision bf16, fp32 or auto")
    return chosen, precision


def fastest_precision(*, on_gpu: bool) -> Precision:
    """Return the fastest precision of this GPU, or this processor, for training and inference."""
    if computes_bf16(on_gpu=on_gpu):
        return Precision.BF16
    if on_gpu:
        import torch

        return Precision.FP16 if torch.cuda.get_device_capability() >= TENSOR_CORES else Precision.FP32
    return Precision.FP32


def computes_bf16(*, on_gpu: bool) -> bool:
    """Return whether the GPU, or the processor, supports bf16 in hardware, and no variable disables it."""
    if on_gpu:
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capped = any(os.environ.get(name, "").upper() in values for name, values in ISA_CAPS.items())
    return not capped and not BF16_FLAGS.isdisjoint(processor_flags())


def caution(engine: Engine, precision: Precision) -> str:
    """Return a warning if a resolved engine and precision are needlessly slow on this machine; empty otherwise."""
    return emulation_caution(precision, on_gpu=_on_gpu(engine))


def emulation_caution(precision: Precision, *, on_gpu: bool) -> str:
    """Return a warning if bf16 is used but only emulated; empty otherwise."""
    if precision is not Precision.BF16 or computes_bf16(on_gpu=on_gpu):
        return ""
    better = fastest_precision(on_gpu=on_gpu)
    if on_gpu:
        return f"bf16 is emulated on this GPU, which is slow; precision auto would use {better}"
    return (
        f"bf16 is emulated on this processor and takes about {EMULATION_FACTOR} times as long as fp32; precision auto "
        f"would use {better}"
    )


def gpu_usable() -> bool:
    """Return whether torch can use a GPU."""
    if platform.system() == "Linux" and not any(any(Path("/dev").glob(name)) for name in GPU_DEVICES):
        return False
    import torch

    return torch.cuda.is_available()


def processor_flags() -> set[str]:
    """Return the processor's feature flags, from Linux or, on other systems, from torch."""
    if CPUINFO.exists():
        lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
        return {flag for name, _, flags in lines if name.strip() in ("flags", "Features") for flag in flags.split()}
    import torch

    return {flag for flag, able in torch.cpu.get_capabilities().items() if able is True}


def _engine(engine: Engine) -> Engine:
    installed = find_spec("openvino") is not None
    if engine is Engine.AUTO:
        faster = installed and platform.machine() in OPENVINO_MACHINES and not gpu_usable()
        return Engine.OPENVINO if faster else Engine.TORCH
    require(
        engine is not Engine.OPENVINO or installed,
        "engine openvino is not installed: install the package openvino, or use the engine torch or auto",
    )
    require(
        engine is not Engine.COMPILED or any(which(name) for name in COMPILERS),
        f"engine compiled finds no C compiler ({', '.join(COMPILERS)}): install one, or use another engine",
    )
    return engine


def _on_gpu(engine: Engine) -> bool:
    return engine is not Engine.OPENVINO and gpu_usable()
