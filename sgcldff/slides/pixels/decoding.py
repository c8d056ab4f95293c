"""The boundary at which decoders of foreign files are called."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sgcldff.core.errors import InputError, MissingInputError, SgcldffError, SlideError


@contextmanager
def decoding(
    path: Path,
    complaint: str,
    error_type: type[InputError] = SlideError,
    remedy: str = "copy or export the slide again",
) -> Iterator[None]:
    """Turn whatever a decoder raises into an error of the file that it decodes.

    Decoders of broken files raise nearly anything: `struct.error`, `zlib.error`, `AssertionError`, `RecursionError`.
    Nothing but decoding and the reading of metadata may stand in this block, so that no mistake of our own hides in it.

    Parameters
    ----------
    complaint
        What then is said of the file, such as "level 2 cannot be read".

    Raises
    ------
    MissingInputError
        If the file is not there.
    InputError
        Of `error_type`, naming the file, the decoder's reason and the remedy. Errors of this package, interrupts and a
        lack of memory pass as they are.
    """
    try:
        yield
    except (SgcldffError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise error_type(f"{path}: {complaint} ({reason}); {remedy}") from error
