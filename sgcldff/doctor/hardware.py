"""GPU, processor, memory, and the library that reads slides."""

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
PATIENCE_S = 20
ASKED = "--query-gpu=name,driver_version,memory.total"


def gpu() -> Check:
    """See whether torch sees the GPUs that the driver shows, and whether they compute in bf16."""
    import torch

    shown = driver_shows()
    if not torch.cuda.is_available():
        if not shown:
            return ok("gpu", "none; the network runs on the processor")
        remedy = f"update the driver, or install a torch for it (this one is built for CUDA {torch.version.cuda})"
        return failed("gpu", f"{'; '.join(shown)}; torch {torch.__version__} does not see it", remedy)
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    told = f"{'; '.join(shown) or ', '.join(names)}; CUDA {torch.version.cuda}, torch {torch.__version__}"
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        return warning("gpu", f"{told}, no bf16", "nothing; precision auto takes fp16 or fp32 here")
    return ok("gpu", f"{told}, bf16")


def driver_shows() -> list[str]:
    """List name, driver and memory of the GPUs that NVIDIA's driver shows."""
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", ASKED, "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return [line.strip() for line in told.stdout.splitlines() if line.strip()] if told.returncode == 0 else []


def processor() -> Check:
    """Say which engine and numbers slides are read with."""
    import torch

    from sgcldff.core.settings import Engine, Precision
    from sgcldff.models.runtimes.hardware import fastest
    from sgcldff.models.runtimes.openvino_library import import_openvino

    able = torch.cpu.get_capabilities()
    has = [name for name in ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx2", "bf16") if able.get(name)]
    engine, precision = fastest(Engine.AUTO, Precision.AUTO)
    told = f"{os.cpu_count()} cores ({', '.join(has) or 'no flag of interest'}); slides: {engine} in {precision}"
    if engine is Engine.OPENVINO:
        devices = import_openvino().Core().available_devices
        if "CPU" not in devices:
            return failed("processor", f"{told}; OpenVINO offers {devices or 'no device'}", "install openvino again")
    return ok("processor", told)


def memory() -> Check:
    """Compare free memory with what the workers of a batch need."""
    free, cores = psutil.virtual_memory().available / GB, os.cpu_count() or 1
    workers = int(free // WORKER_GB)
    told = f"{free:,.1f} GB free, about {WORKER_GB:g} GB a worker, {cores} cores"
    if workers == 0:
        return failed("memory", told, "end other programs: there is no room for one worker")
    if workers < cores:
        return warning("memory", told, f"give `sgcldff infer --workers {workers}`, or end other programs")
    return ok("memory", told)


def slide_library() -> Check:
    """Open a slide that was just made, and read a pixel of it."""
    openslide = import_module("openslide")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.tiff"
        _write_slide(path)
        with openslide.OpenSlide(path) as slide:
            seen = np.asarray(slide.read_region((300, 10), 0, (1, 1)))[0, 0, :3]
    told = f"OpenSlide {openslide.__library_version__} (Python {openslide.__version__})"
    if tuple(seen) != COLOUR:
        return failed(
            "slides", f"{told} reads {tuple(map(int, seen))} where {COLOUR} is", "install openslide-bin again"
        )
    return ok("slides", f"{told}; a slide was written, opened and read")


COLOUR = (200, 100, 50)


def _write_slide(path: Path) -> None:
    import tifffile

    pixels = np.full((256, 512, 3), COLOUR, np.uint8)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression="zlib")
