"""Checks of GPU, processor, memory, and the library that reads slides."""

import os
import shutil
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import psutil

from sgcldff.doctor.check import Check, failed, ok, warning

GB = 1e9
WORKER_GB = 2.0
"""Memory of a worker: 1.7 GB were measured for a process that reads a slide (benchmarks/README.md)."""
COLOUR = (200, 100, 50)
"""RGB of the slide that is written as a check."""
NVIDIA_SMI_TIMEOUT_S = 20
QUERY = "--query-gpu=name,driver_version,memory.total"


def gpu() -> Check:
    """Check whether torch can use the GPUs of the driver, and whether they support bf16."""
    import torch

    driver_gpus = gpus_of_driver()
    if not torch.cuda.is_available():
        if not driver_gpus:
            return ok("gpu", "none; the network runs on the processor")
        remedy = f"update the driver, or install a torch for it (this one is built for CUDA {torch.version.cuda})"
        return failed("gpu", f"{'; '.join(driver_gpus)}; torch {torch.__version__} does not see it", remedy)
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found = f"{'; '.join(driver_gpus) or ', '.join(names)}; CUDA {torch.version.cuda}, torch {torch.__version__}"
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        return warning("gpu", f"{found}, no bf16", "nothing; precision auto uses fp16 or fp32 here")
    return ok("gpu", f"{found}, bf16")


def gpus_of_driver() -> list[str]:
    """Return name, driver and memory of the GPUs that NVIDIA's driver reports."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", QUERY, "--format=csv,noheader"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=False)
    return [line.strip() for line in result.stdout.splitlines() if line.strip()] if result.returncode == 0 else []


def processor() -> Check:
    """Report the engine and precision with which slides are read."""
    import torch

    from sgcldff.core.settings import Engine
    from sgcldff.models.runtimes.hardware import resolve
    from sgcldff.models.runtimes.openvino_library import import_openvino

    capabilities = torch.cpu.get_capabilities()
    relevant = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx2", "bf16")
    features = ", ".join(name for name in relevant if capabilities.get(name)) or "no relevant features"
    engine, precision = resolve()
    found = f"{os.cpu_count()} cores ({features}); slides: {engine} in {precision}"
    if engine is Engine.OPENVINO:
        devices = import_openvino().Core().available_devices
        if "CPU" not in devices:
            return failed("processor", f"{found}; OpenVINO offers {devices or 'no device'}", "install openvino again")
    return ok("processor", found)


def memory() -> Check:
    """Compare free memory with the needs of the workers of a batch."""
    free, cores = psutil.virtual_memory().available / GB, os.cpu_count() or 1
    workers = int(free // WORKER_GB)
    found = f"{free:,.1f} GB free, about {WORKER_GB:g} GB per worker, {cores} cores"
    if workers == 0:
        return failed("memory", found, "close other programs: there is not enough memory for one worker")
    if workers < cores:
        return warning("memory", found, f"use `sgcldff infer --workers {workers}`, or close other programs")
    return ok("memory", found)


def slide_library() -> Check:
    """Write a small slide, open it and read a pixel."""
    openslide = import_module("openslide")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.tiff"
        _write_slide(path)
        with openslide.OpenSlide(path) as slide:
            pixel = np.asarray(slide.read_region((300, 10), 0, (1, 1)))[0, 0, :3]
    found = f"OpenSlide {openslide.__library_version__} (Python {openslide.__version__})"
    if tuple(pixel) != COLOUR:
        wrong = f"{found} reads {tuple(map(int, pixel))} instead of {COLOUR}"
        return failed("slides", wrong, "install openslide-bin again")
    return ok("slides", f"{found}; a slide was written, opened and read")


def _write_slide(path: Path) -> None:
    import tifffile

    pixels = np.full((256, 512, 3), COLOUR, np.uint8)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression="zlib")
