"""Retries, caching and tags of all stages.

The stages themselves cache their results on disk, by content: catalogs and prior stores know their files, trainings and
evaluations are in folders named after the digests of their inputs, and slides are resumed shard by shard. Prefect's
result cache is off: it would hash paths, and remember results whose files have been deleted.
"""

from sgcldff.core.disks import is_disk_full
from sgcldff.core.errors import ServiceError, SgcldffError, TaskLostError

RETRY_DELAYS_S = (2.0, 20.0)
"""Delays before a stage is retried."""

DATA, MODEL, SLIDES = ["data"], ["model"], ["slides"]
"""Tags of stages for work queues and concurrency limits."""


def worth_retrying(error: object) -> bool:
    """Return whether an error may be temporary: bad input stays bad, a server may come back.

    Full disks, and shards that have already crashed several workers, would fail again.
    """
    if isinstance(error, TaskLostError) or (isinstance(error, BaseException) and is_disk_full(error)):
        return False
    if isinstance(error, SgcldffError):
        return isinstance(error, ServiceError)
    return isinstance(error, OSError)
