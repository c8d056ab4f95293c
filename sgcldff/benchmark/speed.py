"""Size and speed of models, and the machine on which they were timed."""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, cast

import numpy as np
import torch
from pydantic import Field

from sgcldff.core.settings import ModelSpec
from sgcldff.models.model import Model
from sgcldff.models.nets.base import Network
from sgcldff.models.nets.complexity import flops, parameters, untrained
from sgcldff.models.runtimes.hardware import CPUINFO
from sgcldff.promotion.cost import shortest_times
from sgcldff.saliency.priors import build

CROPS_PER_BATCH = 16
PRIOR = "prior"


@dataclass(frozen=True)
class ModelSize:
    """Size and speed of a candidate."""

    candidate: Annotated[str, Field(alias="contender")]
    parameters: int
    flops: int
    """Floating-point operations per crop, counting a multiplication and an addition as two."""
    outlines: bool
    """Whether outlines are learned."""
    images_per_s: float | None = None
    """Crops per second through the network, without the prior; None if it was not timed."""


def size_of(candidate: str, spec: ModelSpec) -> ModelSize:
    """Count parameters and operations of a network."""
    net, priors = untrained(spec), len(spec.prior.names)
    return ModelSize(candidate, parameters(net), flops(net, spec.crop_px, priors), cast(Network, net).outlines)


def rates(models: Mapping[str, Model], rounds: int) -> dict[str, float]:
    """Time models on the same batch of crops, in turn; returns crops per second of each, and of their priors."""
    first = next(iter(models.values()))
    side = first.spec.crop_px
    crops = np.random.default_rng(0).integers(0, 256, (CROPS_PER_BATCH, side, side, 3), np.uint8)
    stack = build(first.spec.prior)
    priors = np.stack([stack(crop) for crop in crops])
    runs: dict[str, Callable[[], object]] = {name: partial(one.predict, crops, priors) for name, one in models.items()}
    runs[PRIOR] = lambda: [stack(crop) for crop in crops]
    for run in runs.values():
        run()
    times = shortest_times(list(runs.values()), rounds)
    return {name: CROPS_PER_BATCH / seconds for name, seconds in zip(runs, times, strict=True)}


def machine(device: torch.device) -> str:
    """Describe the hardware, without the machine's name."""
    cores = f"{processor_name()}, cores: {os.cpu_count()}, threads used: {torch.get_num_threads()}"
    return f"{torch.cuda.get_device_name(device)} ({cores})" if device.type == "cuda" else cores


def processor_name() -> str:
    """Return the model name of the processor."""
    if CPUINFO.exists():
        lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
        names = (value.strip() for key, _, value in lines if key.strip() == "model name")
        return next(names, platform.machine())
    return platform.processor() or platform.machine()
