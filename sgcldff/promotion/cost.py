"""What a model costs: the time and the memory in which it reads one area, measured side by side."""

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

TILE_UM, TILES = 51.2, 4
"""Side (um) and number of the tiles that are read: 256 px each at 0.2 um/px."""


@dataclass(frozen=True)
class Cost:
    """What reading `TILES` tiles of `TILE_UM` takes, priors included."""

    seconds: float
    memory: int
    """Largest sum of all tensors that live at one time, weights included, bytes."""
    parameters: int


def costs(champion: Model, challenger: Model, rounds: int) -> tuple[Cost, Cost]:
    """Measure two models on one area, in turns on one machine."""
    models = (champion, challenger)
    runs = [_reading(model) for model in models]
    memory = [peak_memory(model, run) for model, run in zip(models, runs, strict=True)]
    seconds = shortest(runs, rounds)
    before, after = (
        Cost(took, held, parameters(model.net)) for model, took, held in zip(models, seconds, memory, strict=True)
    )
    return before, after


def _reading(model: Model) -> Callable[[], object]:
    side = round(TILE_UM / model.spec.mpp)
    tiles = np.random.default_rng(0).integers(0, 256, (TILES, side, side, 3), np.uint8)
    priors = build(model.spec.prior)
    return lambda: model.predict(tiles, np.stack([priors(tile) for tile in tiles]))


def shortest(
    runs: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Time each run in every round, in turns, and give the shortest time of each, s.

    Other work on the machine only ever adds to a time, so that the shortest of several is nearest to the truth.
    """
    best = [np.inf] * len(runs)
    for _ in range(rounds):
        for place, run in enumerate(runs):
            began = clock()
            run()
            best[place] = min(best[place], clock() - began)
    return best


def peak_memory(model: Model, run: Callable[[], object]) -> int:
    """Give the largest sum of tensors that live at one time while `run` runs, the model's own included, bytes."""
    own = sum(int(tensor.untyped_storage().nbytes()) for tensor in model.net.state_dict().values())
    with LiveTensors() as live:
        run()
    return own + int(live.peak)


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class has no types
    """Counts the bytes of tensors that are made within the block, on any device, while they live.

    The count depends on the network and the area alone, not on the allocator or on what else runs.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        result = func(*args, **(kwargs or {}))
        given = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _address(leaf) not in given:
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
    """Find whether time and memory are within their multiples of the champion's."""
    times = f"time {challenger.seconds:.3f} s against the champion's {champion.seconds:.3f} s"
    sizes = f"memory {_mib(challenger)} MiB against the champion's {_mib(champion)} MiB"
    weights = f"{challenger.parameters / 1e6:.2f} against {champion.parameters / 1e6:.2f} million weights"
    return (
        _multiple("speed", times, (champion.seconds, challenger.seconds), spec.max_time_ratio),
        _multiple("memory", f"{sizes}, {weights}", (champion.memory, challenger.memory), spec.max_memory_ratio),
    )


def _multiple(rule: str, told: str, pair: tuple[float, float], limit: float) -> Finding:
    before, after = pair
    ratio = after / before
    passed = ratio <= limit + ROUNDING
    text = f"{told}: {ratio:.2f} times, {'within' if passed else 'above'} the limit of {limit:.2f}"
    return Finding(rule, passed, text, before, after, ratio, limit=limit)


def _mib(cost: Cost) -> str:
    return f"{cost.memory / 2**20:.1f}"
