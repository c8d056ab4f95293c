"""Training batches: which examples an epoch contains, in which order, and how they are loaded."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
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
from sgcldff.core.wording import first_few
from sgcldff.models.training.examples import Example, ExampleOptions, SampleKey, SmearDataset, cycle_from
from sgcldff.models.training.teacher import Teacher
from sgcldff.saliency.store import PriorStore
from sgcldff.slides.images import sha256_of

logger = logging.getLogger(__name__)


def without_labels(samples: Iterable[Sample], doubted: Collection[str]) -> tuple[Sample, ...]:
    """Remove the labels of samples whose data set and type, as `bccd/eosinophil`, are doubted; warn of absent ones."""
    every = tuple(samples)
    names = [f"{sample.source}/{sample.label}" for sample in every]
    for absent in sorted(set(doubted) - set(names)):
        logger.warning("the doubted label %s is that of no image", absent)
    return tuple(
        replace(sample, label=None) if name in doubted else sample for name, sample in zip(names, every, strict=True)
    )


def balanced_weights(samples: Sequence[Sample], balance: float) -> NDArray[np.float64]:
    """Return the share of each sample in an epoch: a stratum (data set, label) of n samples weighs n^(1 - balance)."""
    strata = [(sample.source, sample.label) for sample in samples]
    counts = Counter(strata)
    weights = np.array([counts[stratum] ** -balance for stratum in strata], np.float64)
    return np.asarray(weights / weights.sum())


class EpochSampler(Sampler[SampleKey]):
    """Systematic sampling of one epoch: each sample occurs in proportion to its weight, give or take one.

    Parameters
    ----------
    weights
        Share of each sample, sums to 1.
    batch_size
        An epoch consists of full batches (times processes).
    seed
        Order, offset and the variation of every example depend on seed and epoch.
    unreadable
        Called when an epoch starts; returns the samples that must be skipped. The next sample replaces each.
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
        """Samples that are skipped in the current epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by Lightning."""
        self.epoch = epoch

    def resume_at(self, batches: int, skipped: Collection[int] = ()) -> None:
        """Resume an interrupted epoch after `batches` batches, without the samples that it skipped."""
        self.skip = batches * self.batch_size
        self.skipped = frozenset(skipped)

    def __len__(self) -> int:
        return -(-len(self.weights) // (self.batch_size * _world())) * self.batch_size

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield this process's samples of the epoch."""
        skip, self.skip = self.skip, 0
        self.skipped = frozenset(self.unreadable()) | (self.skipped if skip else frozenset())
        indices = self.indices()[_rank() :: _world()]
        for position in range(skip, len(self)):
            candidates = cycle_from(int(indices[position]), len(self.weights))
            index = next(candidate for candidate in candidates if candidate not in self.skipped)
            yield SampleKey(index, (self.seed, self.epoch, position * _world() + _rank()))

    def indices(self) -> NDArray[np.int64]:
        """Return the sample indices of the entire epoch in order, for all processes."""
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
    """Loads training and validation examples, and remembers where in an epoch a run stopped."""

    def __init__(
        self,
        samples: Sequence[Sample],
        priors: PriorStore,
        model: ModelSpec,
        train: TrainSpec,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.spec = train
        training = [sample for sample in samples if sample.split is Split.TRAIN]
        validation = [sample for sample in samples if sample.split is Split.VAL]
        if not training:
            raise InputError("no image is in the training split: ingest more images or lower the other splits' shares")
        options = ExampleOptions(train.augment, train.recolour, train.prior_outlines, train.prior_epochs)
        self.training = SmearDataset(training, priors, model, options, teacher)
        self.validation = SmearDataset(validation, priors, model, ExampleOptions())
        self.files = FileCheck(training)
        weights = balanced_weights(training, train.balance)
        self.sampler = EpochSampler(weights, train.batch_size, train.seed, self._unreadable)
        self.skipped: dict[str, str] = {}
        """Id of each training image that was skipped in some epoch -> reason."""

    def _unreadable(self) -> Collection[int]:
        """Check which training images can be read in the epoch that starts, and log those that cannot."""
        faults = self.files.faults()
        if len(faults) == len(self.training):
            raise InputError(f"no training image can be read any more; the first: {faults[0]}")
        by_id = {self.training.samples[index].id: reason for index, reason in faults.items()}
        new = [reason for name, reason in by_id.items() if self.skipped.get(name) != reason]
        self.skipped |= by_id
        if new:
            logger.warning("training images skipped: %d (%s)", len(new), first_few(new))
        return faults.keys()

    def train_dataloader(self) -> DataLoader[Example]:
        """Load the training examples of the sampler's epoch."""
        return self._loader(self.training, self.sampler)

    def val_dataloader(self) -> DataLoader[Example]:
        """Load every validation image once, without variation."""
        keys = [SampleKey(index, None) for index in range(len(self.validation))][_rank() :: _world()]
        return self._loader(self.validation, keys)

    def _loader(self, dataset: SmearDataset, keys: Iterable[SampleKey]) -> DataLoader[Example]:
        workers = self.spec.workers
        return DataLoader(
            dataset,
            self.spec.batch_size,
            sampler=keys,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches of the current epoch are done, and which images it skips."""
        trainer = self.trainer
        assert trainer is not None
        done = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        return {"batches": done, "skipped": sorted(self.sampler.skipped)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume after the batches that are done; early checkpoints lack `skipped`."""
        batches = state_dict["batches"] % (len(self.sampler) // self.spec.batch_size)
        self.sampler.resume_at(batches, state_dict.get("skipped", ()))


class FileCheck:
    """Finds samples whose image or mask is missing or changed.

    A file is hashed again only if its modification time or size changed.

    Parameters
    ----------
    samples
        Samples with the digests recorded by ingest; a file without a digest only has to exist.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = tuple(samples)
        self._hashed: dict[str, tuple[tuple[int, int], str]] = {}

    def faults(self) -> dict[int, str]:
        """Check all files: index of the sample -> reason, for samples that cannot be used."""
        reasons = {index: next(iter(self._faults(sample)), "") for index, sample in enumerate(self.samples)}
        return {index: reason for index, reason in reasons.items() if reason}

    def _faults(self, sample: Sample) -> Iterable[str]:
        for path, sha256 in ((sample.image, sample.sha256), (sample.mask, sample.mask_sha256)):
            if path is None:
                continue
            try:
                if self._digest(path) != sha256 and sha256:
                    yield f"{path}: was changed since it was prepared; run `sgcldff prepare` again"
            except OSError as error:
                yield f"{path}: cannot be read ({error.strerror or error}); restore it"

    def _digest(self, path: str) -> str:
        stat = Path(path).stat()
        state = (stat.st_size, stat.st_mtime_ns)
        known = self._hashed.get(path)
        if known is None or known[0] != state:
            self._hashed[path] = known = (state, sha256_of(path))
        return known[1]
