"""Time and memory that models need for the same area, measured side by side."""

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sgcldff.core.settings import PromotionSpec
from sgcldff.models.model import Model
from sgcldff.models.nets.complexity import parameters
from sgcldff.promotion.findings import ROUNDING, Finding
from sgcldff.saliency.priors import build

TILE_UM, TILE_COUNT = 51.2, 4
"""Side (um) and number of the tiles: 256 px each at 0.2 um/px."""


@dataclass(frozen=True)
class Cost:
    """Cost of predicting `TILE_COUNT` tiles of `TILE_UM`, priors included."""

    seconds: float
    memory: int
    """Peak of the total size of live tensors, weights included, bytes."""
    parameters: int


def costs(champion: Model, challenger: Model, rounds: int) -> tuple[Cost, Cost]:
    """Measure two models on the same area, alternating on the same machine."""
    models = (champion, challenger)
    runs = [_tile_run(model) for model in models]
    memory = [peak_memory(model, run) for model, run in zip(models, runs, strict=True)]
    seconds = shortest_times(runs, rounds)
    sizes = [parameters(model.net) for model in models]
    first, second = (Cost(*values) for values in zip(seconds, memory, sizes, strict=True))
    return first, second


def _tile_run(model: Model) -> Callable[[], object]:
    side = round(TILE_UM / model.spec.mpp)
    tiles = np.random.default_rng(0).integers(0, 256, (TILE_COUNT, side, side, 3), np.uint8)
    priors = build(model.spec.prior)
    return lambda: model.predict(tiles, np.stack([priors(tile) for tile in tiles]))


def shortest_times(
    runs: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Time each run in every round, in turn, and return the shortest time of each, s.

    Other work on the machine can only add to a time, so that the shortest of several is the most accurate.
    """
    best = [np.inf] * len(runs)
    for _ in range(rounds):
        for index, run in enumerate(runs):
            start = clock()
            run()
            best[index] = min(best[index], clock() - start)
    return best


def peak_memory(model: Model, run: Callable[[], object]) -> int:
    """Return the peak of the total size of live tensors during `run`, the model's weights included, bytes."""
    own = sum(int(tensor.untyped_storage().nbytes()) for tensor in model.net.state_dict().values())
    with LiveTensors() as live:
        run()
    return own + int(live.peak)


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class has no types
    """Counts the bytes of live tensors that are created within the block, on any device.

    The count depends only on the network and the area, not on the allocator or other processes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count the tensors that it creates."""
        result = func(*args, **(kwargs or {}))
        inputs = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _address(leaf) not in inputs:
                self._count(leaf)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        address, storage = _address(tensor), tensor.untyped_storage()
        if address in self._seen:
            return
        self._seen.add(address)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, address, storage.nbytes())

    def _forget(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size


def _address(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def cost_findings(champion: Cost, challenger: Cost, spec: PromotionSpec) -> tuple[Finding, Finding]:
    """Check whether time and memory are within the allowed multiples of the champion's."""
    times = f"time {challenger.seconds:.3f} s, champion {champion.seconds:.3f} s"
    mib = [f"{cost.memory / 2**20:.1f} MiB" for cost in (challenger, champion)]
    weights = f"{challenger.parameters / 1e6:.2f} and {champion.parameters / 1e6:.2f} million weights"
    sizes = f"memory {mib[0]}, champion {mib[1]}, {weights}"
    return (
        _ratio_finding("speed", times, champion.seconds, challenger.seconds, spec.max_time_ratio),
        _ratio_finding("memory", sizes, champion.memory, challenger.memory, spec.max_memory_ratio),
    )


def _ratio_finding(rule: str, values: str, champion: float, challenger: float, limit: float) -> Finding:
    ratio = challenger / champion
    passed = ratio <= limit + ROUNDING
    text = f"{values}: {ratio:.2f} times, {'within' if passed else 'above'} the limit of {limit:.2f}"
    return Finding(rule, passed, text, champion, challenger, ratio, limit=limit)
