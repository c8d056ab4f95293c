"""Errors that users meet: each names the file, the value, the limit and the remedy.

Every error also inherits the builtin that it refines, so callers without knowledge of this package can catch it, and
carries the exit code with which the command line ends.
"""


class SgcldffError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class InputError(SgcldffError, ValueError):
    """An input file, value or setting that cannot be used as it is."""

    exit_code = 2


class MissingInputError(InputError, FileNotFoundError):
    """A file or folder that was named but is not there."""


class NothingFoundError(InputError):
    """A place that was looked through, in which nothing is of the kind sought."""


class SlideError(InputError, OSError):
    """A slide that no reader opens, or that lacks what is needed to read it (its mpp, say)."""


class LabelError(InputError, KeyError):
    """A label that no class knows, or two label spaces that do not agree."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class IncompleteBatchError(SgcldffError):
    """A batch that went on past bad inputs: the rest is done, what was set aside is listed."""

    exit_code = 3


class OutOfTimeError(IncompleteBatchError):
    """Work that stopped because its time was up; what is done is kept, and the same command goes on after it."""


class StoreError(SgcldffError, OSError):
    """An array store that is damaged, of another layout version, or written out of line."""

    exit_code = 4


class ServiceError(SgcldffError, ConnectionError):
    """A server (MLflow, Prefect, a Dask scheduler) that does not answer."""

    exit_code = 5


class TaskLostError(ServiceError):
    """A task that took several worker processes down with it, most often for want of memory."""


class PromotionRefusedError(SgcldffError):
    """A challenger that did not earn the champion's place; the message gives the reasons."""

    exit_code = 6


class NoRoomError(SgcldffError, OSError):
    """A disk that is full, or nearly."""

    exit_code = 7
