"""Retries, caching and tags of all stages, in one place.

Results are cached by content, on disk, by the stages themselves: a catalog knows its files, a prior store its images, a
training run and an evaluation lie in a folder named after the digests of all that went into them, and slides are
resumed shard by shard. Prefect's own result cache is off: it would hash paths, and remember results whose files are
gone.
"""

from sgcldff.core.disks import is_disk_full
from sgcldff.core.errors import ServiceError, SgcldffError, TaskLostError

RETRY_DELAYS_S = (2.0, 20.0)
"""Waits before a stage is tried again."""

DATA, MODEL, SLIDES = ["data"], ["model"], ["slides"]
"""Tags by which work queues and concurrency limits tell stages apart."""


def worth_retrying(error: object) -> bool:
    """Whether trying again can help: bad input stays bad, a server may come back.

    Full disks, and shards that have taken several workers down already, would only fail again.
    """
    if isinstance(error, TaskLostError) or (isinstance(error, BaseException) and is_disk_full(error)):
        return False
    if isinstance(error, SgcldffError):
        return isinstance(error, ServiceError)
    return isinstance(error, OSError)
