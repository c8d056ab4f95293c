"""Errors that users see: each names the file, the value, the limit and the remedy.

Every error also inherits from the built-in that it refines, so that callers who do not know this package can catch it,
and carries the exit code of the command line.
"""


class SgcldffError(Exception):
    """Base of all errors that this package raises deliberately; their texts can be written anywhere."""

    exit_code = 1

    def __str__(self) -> str:
        return readable(Exception.__str__(self))


def readable(text: str) -> str:
    """Replace what is not UTF-8 in a text, such as parts of a file name in Latin-1."""
    return text.encode(errors="replace").decode()


class InputError(SgcldffError, ValueError):
    """An input file, value or setting that cannot be used."""

    exit_code = 2


class MissingInputError(InputError, FileNotFoundError):
    """A file or folder that was named but does not exist."""


class NothingFoundError(InputError):
    """A place that was searched without finding anything of the kind wanted."""


class SlideError(InputError, OSError):
    """A slide that no reader can open, or that lacks something needed to read it (such as its mpp)."""


class LabelError(InputError, KeyError):
    """A label that belongs to no class, or two label spaces that do not match."""


class IncompleteBatchError(SgcldffError):
    """A batch that skipped bad inputs: the rest is done, and what was skipped is listed."""

    exit_code = 3


class OutOfTimeError(IncompleteBatchError):
    """Work that stopped because its time was up; what is done is kept, and the same command continues from there."""


class StoreError(SgcldffError, OSError):
    """An array store that is damaged, has another layout version, or was written inconsistently."""

    exit_code = 4


class ServiceError(SgcldffError, ConnectionError):
    """A server (MLflow, Prefect, a Dask scheduler) that does not answer."""

    exit_code = 5


class TaskLostError(ServiceError):
    """A task that crashed several worker processes, most often for lack of memory."""


class PromotionRefusedError(SgcldffError):
    """A challenger that did not earn promotion to champion; the message gives the reasons."""

    exit_code = 6


class DiskFullError(SgcldffError, OSError):
    """A disk that is full or nearly full."""

    exit_code = 7
