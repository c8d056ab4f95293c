"""How large and how fast models are, and on what they were timed."""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch

from sgcldff.core.settings import ModelSpec
from sgcldff.models.model import Model
from sgcldff.models.nets.base import Network
from sgcldff.models.nets.complexity import flops, parameters, untrained
from sgcldff.models.runtimes.hardware import CPUINFO
from sgcldff.promotion.cost import shortest
from sgcldff.saliency.priors import build

BATCH = 16
"""Crops that are asked about at once."""
PRIOR = "prior"


@dataclass(frozen=True)
class Size:
    """What a contender costs."""

    contender: str
    parameters: int
    flops: int
    """Floating-point operations for one crop, a multiplication and an addition counting as two."""
    outlines: bool
    """Whether outlines are learned."""
    images_per_s: float | None = None
    """Crops a second through the network, the prior not counted; None if it was not timed."""


def size_of(contender: str, spec: ModelSpec) -> Size:
    """Count what a network of that spec holds and computes."""
    net, priors = untrained(spec), len(spec.prior.names)
    return Size(contender, parameters(net), flops(net, spec.crop_px, priors), cast(Network, net).outlines)


def rates(models: Mapping[str, Model], rounds: int) -> dict[str, float]:
    """Time models on the same batch of crops, in turns; gives crops a second of each, and of computing their priors."""
    first = next(iter(models.values()))
    side = first.spec.crop_px
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)
    stack = build(first.spec.prior)
    priors = np.stack([stack(crop) for crop in crops])
    runs: dict[str, Callable[[], object]] = {name: partial(one.predict, crops, priors) for name, one in models.items()}
    runs[PRIOR] = lambda: [stack(crop) for crop in crops]
    for run in runs.values():
        run()
    times = shortest(list(runs.values()), rounds)
    return {name: BATCH / took for name, took in zip(runs, times, strict=True)}


def machine(device: torch.device) -> str:
    """Say on what kind of machine models run, without naming it."""
    cores = f"{processor()}, cores: {os.cpu_count()}, threads used: {torch.get_num_threads()}"
    return f"{torch.cuda.get_device_name(device)} ({cores})" if device.type == "cuda" else cores


def processor() -> str:
    """Name the kind of processor."""
    if CPUINFO.exists():
        lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
        named = (value.strip() for name, _, value in lines if name.strip() == "model name")
        return next(named, platform.machine())
    return platform.processor() or platform.machine()
