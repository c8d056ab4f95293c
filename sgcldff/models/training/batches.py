"""Batches of a training: which examples an epoch shows, in which order, and how they are loaded."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import lightning
import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from sgcldff.core.errors import InputError
from sgcldff.core.records import Sample, Split
from sgcldff.core.settings import ModelSpec, TrainSpec
from sgcldff.data.source_files import FileCheck
from sgcldff.models.training.examples import Draw, Item, Lessons, SmearDataset, in_turn
from sgcldff.saliency.store import PriorStore

logger = logging.getLogger(__name__)

NAMED = 3
"""Skipped images that a warning names."""


def balanced_weights(samples: Sequence[Sample], balance: float) -> NDArray[np.float64]:
    """Return each sample its share of an epoch: strata (data set, label) of n samples weigh n^(1 - balance)."""
    strata = [(sample.source, sample.label) for sample in samples]
    counts = Counter(strata)
    weights = np.array([counts[stratum] ** -balance for stratum in strata], np.float64)
    return np.asarray(weights / weights.sum())


class EpochSampler(Sampler[Draw]):
    """Draws of one epoch by systematic sampling: each sample comes as often as its weight says, give or take one.

    Parameters
    ----------
    weights
        Share of each sample, sums to 1.
    batch_size
        Draws are filled up to whole batches (times processes).
    seed
        Order, offset and every example's variation follow from seed and epoch.
    unreadable
        Asked when an epoch begins: samples that cannot be shown in it. The next one is shown in place of each.
    """

    def __init__(
        self,
        weights: NDArray[np.float64],
        batch_size: int,
        seed: int,
        unreadable: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        self.weights = weights
        self.batch_size = batch_size
        self.seed = seed
        self.unreadable = unreadable
        self.epoch = 0
        self.skip = 0
        self.skipped = frozenset[int]()
        """Samples that are not shown in the running epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this."""
        self.epoch = epoch

    def resume_at(self, batches: int, skipped: Collection[int] = ()) -> None:
        """Leave out the batches that the interrupted epoch already had, once, and samples that it skipped."""
        self.skip = batches * self.batch_size
        self.skipped = frozenset(skipped)

    def __len__(self) -> int:
        return -(-len(self.weights) // (self.batch_size * _world())) * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        """Return this process's draws of the epoch."""
        skip, self.skip = self.skip, 0
        self.skipped = frozenset(self.unreadable()) | (self.skipped if skip else frozenset())
        indices = self.indices()[_rank() :: _world()]
        for place in range(skip, len(self)):
            shown = next(one for one in in_turn(int(indices[place]), len(self.weights)) if one not in self.skipped)
            yield Draw(shown, (self.seed, self.epoch, place * _world() + _rank()))

    def indices(self) -> NDArray[np.int64]:
        """Return the samples of the whole epoch in order, for all processes."""
        rng = np.random.default_rng((self.seed, self.epoch))
        total = len(self) * _world()
        order = rng.permutation(len(self.weights))
        edges = np.cumsum(self.weights[order])
        ticks = (np.arange(total) + rng.random()) / total
        drawn = order[np.searchsorted(edges, ticks * edges[-1], side="right").clip(max=len(order) - 1)]
        return np.asarray(rng.permutation(drawn), np.int64)


def _world() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


class SmearDataModule(lightning.LightningDataModule):
    """Loaders of training and validation examples; remembers where in an epoch a run stopped."""

    def __init__(self, samples: Sequence[Sample], priors: PriorStore, model: ModelSpec, train: TrainSpec) -> None:
        super().__init__()
        self.spec = train
        learn = [sample for sample in samples if sample.split is Split.TRAIN]
        watch = [sample for sample in samples if sample.split is Split.VAL]
        if not learn:
            raise InputError("no image is in the training split: ingest more images or lower the other splits' shares")
        lessons = Lessons(train.augment, train.recolour, train.prior_outlines, train.prior_epochs)
        self.training = SmearDataset(learn, priors, model, lessons)
        self.validation = SmearDataset(watch, priors, model, Lessons())
        self.files = FileCheck(learn)
        self.sampler = EpochSampler(
            balanced_weights(learn, train.balance), train.batch_size, train.seed, self._unreadable
        )
        self.skipped: dict[str, str] = {}
        """Training images that were skipped in some epoch, by their ids, and why."""

    def _unreadable(self) -> Collection[int]:
        """Look which training images can be shown in the epoch that begins, and say which cannot."""
        faults = self.files.faults()
        if len(faults) == len(self.training):
            raise InputError(f"no training image can be read any more; the first: {faults[0]}")
        fresh = {self.training.samples[place].id: reason for place, reason in faults.items()}
        new = [reason for name, reason in fresh.items() if self.skipped.get(name) != reason]
        self.skipped |= fresh
        if new:
            rest = f"; and {len(new) - NAMED} more" if len(new) > NAMED else ""
            logger.warning("training images skipped: %d (%s%s)", len(new), "; ".join(new[:NAMED]), rest)
        return faults.keys()

    def train_dataloader(self) -> DataLoader[Item]:
        """Load the training examples of the sampler's epoch."""
        return self._loader(self.training, self.sampler)

    def val_dataloader(self) -> DataLoader[Item]:
        """Load every validation image once, unvaried."""
        return self._loader(
            self.validation, [Draw(index, None) for index in range(len(self.validation))][_rank() :: _world()]
        )

    def _loader(self, dataset: SmearDataset, draws: Iterable[Draw]) -> DataLoader[Item]:
        workers = self.spec.workers
        return DataLoader(
            dataset,
            self.spec.batch_size,
            sampler=draws,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def state_dict(self) -> dict[str, Any]:
        """Note how many batches of the running epoch are behind us, and which images it skips."""
        trainer = self.trainer
        assert trainer is not None
        done = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        return {"batches": done, "skipped": sorted(self.sampler.skipped)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the batches that were done; checkpoints from before images were skipped name none."""
        batches = state_dict["batches"] % (len(self.sampler) // self.spec.batch_size)
        self.sampler.resume_at(batches, state_dict.get("skipped", ()))
