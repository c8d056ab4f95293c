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
    """Convert any exception of a decoder into an error that names the decoded file.

    Decoders of broken files raise nearly anything: `struct.error`, `zlib.error`, `AssertionError`, `RecursionError`.
    Only decoding and reading of metadata belong in this block, so that it does not hide bugs of our own.

    Parameters
    ----------
    complaint
        Description of the problem, such as "level 2 cannot be read".

    Raises
    ------
    MissingInputError
        If the file does not exist.
    InputError
        Of type `error_type`, with the file, the decoder's reason and the remedy. Errors of this package, interrupts and
        memory errors pass unchanged.
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
