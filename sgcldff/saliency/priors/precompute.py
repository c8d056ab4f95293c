"""Priors of many images, computed before training and kept in a store; only missing ones are computed."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.errors import InputError, TaskLostError
from sgcldff.core.records import ArrayRef, Sample
from sgcldff.core.settings import PriorSpec
from sgcldff.core.tally import Progress
from sgcldff.saliency.priors.registry import PriorStack, build
from sgcldff.saliency.store import IndexEntry, PriorStore, Shard, quantise, write_shard
from sgcldff.slides.images import read_rgb, rescale, scaled_shape, sha256_of

if TYPE_CHECKING:
    from sgcldff.cluster import Client

SHARDS_PER_THREAD = 2
COMMIT_SHARE = 0.1
"""Share of the time that commits may take: they take longer as the index grows, and are then made less often."""


@dataclass(frozen=True)
class PriorFailure:
    """An image that was skipped."""

    image: str
    reason: str


@dataclass(frozen=True)
class PriorShardTask:
    """Everything a worker needs to compute and write one shard."""

    path: Path
    """Folder of the store."""
    spec: PriorSpec
    shard: Shard
    samples: tuple[Sample, ...]
    """In the order of the shard's keys."""


@dataclass(frozen=True)
class ShardResult:
    """The outcome for the images of a shard."""

    entries: tuple[IndexEntry, ...]
    failures: tuple[PriorFailure, ...]


def compute_priors(
    samples: Sequence[Sample],
    folder: str | Path,
    spec: PriorSpec,
    client: "Client | None" = None,
    progress: Progress | None = None,
) -> tuple[ArrayRef, tuple[PriorFailure, ...]]:
    """Compute the priors of all `samples` that are not in the store below `folder` yet.

    Images are processed in shards, by Dask if there is a client, and committed as they are finished: a killed run
    resumes where it was when it is started again.

    Returns
    -------
    tuple
        Reference to the store, and the skipped images with their reasons.

    Raises
    ------
    InputError
        If `spec` names an unknown prior.
    StoreError
        If the store is damaged, has another layout version, or cannot be written.
    """
    build(spec)
    store = PriorStore.create_or_open(folder, spec)
    by_key = {sample.sha256 or sample.id: sample for sample in samples}
    missing = {key: by_key[key] for key in store.missing(by_key)}
    failures = [failure for sample in missing.values() if (failure := _unusable(sample))]
    usable = {key: sample for key, sample in missing.items() if not _unusable(sample)}
    committer = _Committer(store)
    for result in _results(_shard_tasks(store, usable), client):
        failures.extend(result.failures)
        committer.add(result.entries)
        if progress is not None:
            progress(committer.count + len(failures), len(missing))
    return committer.close().ref, tuple(failures)


def _unusable(sample: Sample) -> PriorFailure | None:
    if not (sample.sha256 and sample.height > 0 and sample.width > 0):
        return _failure(sample, "sha256 or size is unknown: ingest the image first")
    if not sample.mpp > 0:
        return _failure(sample, f"mpp is {sample.mpp}: give a positive number of um/px")
    return None


def _failure(sample: Sample, reason: str) -> PriorFailure:
    return PriorFailure(sample.image, reason)


def _shard_tasks(store: PriorStore, samples: dict[str, Sample]) -> list[PriorShardTask]:
    sizes = {key: scaled_shape((s.height, s.width), s.mpp, store.spec.mpp) for key, s in samples.items()}
    shards = store.reserve(sizes)
    return [
        PriorShardTask(store.path, store.spec, shard, tuple(samples[key] for key in shard.keys)) for shard in shards
    ]


def _results(tasks: Sequence[PriorShardTask], client: "Client | None") -> Iterator[ShardResult]:
    if client is None:
        yield from map(compute_shard, tasks)
        return
    from sgcldff.cluster import map_bounded, threads

    for task, outcome in map_bounded(client, compute_shard, tasks, SHARDS_PER_THREAD * threads(client)):
        if isinstance(outcome, TaskLostError):
            yield ShardResult((), tuple(_failure(sample, str(outcome)) for sample in task.samples))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            yield outcome


def compute_shard(task: PriorShardTask) -> ShardResult:
    """Compute and write the priors of a shard's images; images that cannot be used are skipped."""
    stack = build(task.spec)
    priors: dict[str, NDArray[np.uint8]] = {}
    failures = []
    for sample in task.samples:
        try:
            priors[sample.sha256] = _image_priors(stack, sample, task.spec)
        except InputError as error:
            failures.append(_failure(sample, str(error)))
    return ShardResult(write_shard(task.path, task.shard, priors) if priors else (), tuple(failures))


def _image_priors(stack: PriorStack, sample: Sample, spec: PriorSpec) -> NDArray[np.uint8]:
    rgb = read_rgb(sample.image)
    if sha256_of(sample.image) != sample.sha256:
        raise InputError(f"{sample.image}: changed since it was ingested; ingest it again")
    if rgb.shape[:2] != (sample.height, sample.width):
        raise InputError(
            f"{sample.image}: is {rgb.shape[0]}x{rgb.shape[1]} px, the manifest says {sample.height}x{sample.width}"
        )
    return quantise(stack(rescale(rgb, sample.mpp, spec.mpp)))


class _Committer:
    """Commits entries as they arrive, but spends at most `COMMIT_SHARE` of the time on it."""

    def __init__(self, store: PriorStore) -> None:
        self.store = store
        self.count = 0
        self.pending: list[IndexEntry] = []
        self.due = 0.0

    def add(self, entries: Sequence[IndexEntry]) -> None:
        self.count += len(entries)
        self.pending.extend(entries)
        if time.monotonic() >= self.due:
            self.close()

    def close(self) -> PriorStore:
        start = time.monotonic()
        if self.pending:
            self.store = self.store.commit(self.pending)
            self.pending = []
        now = time.monotonic()
        self.due = now + (now - start) / COMMIT_SHARE
        return self.store
