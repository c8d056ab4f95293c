"""The boundary at which files that others wrote are read."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

from sgcldff.core.errors import InputError, MissingInputError, SgcldffError

LONGEST_REASON = 300
"""Characters of a library's message that are repeated; it may quote the file."""


@contextmanager
def reading(
    file: str | Path,
    complaint: str,
    remedy: str,
    error_type: type[SgcldffError] = InputError,
    missing: str = "check its name",
) -> Iterator[None]:
    """Turn whatever a library raises about a file into one error of our own.

    Readers of broken files raise nearly anything: `struct.error`, `zlib.error`, `AssertionError`, `RecursionError`.
    Only reading and decoding belong in this block, so that it does not hide bugs of our own.

    Parameters
    ----------
    file
        Name for messages. A path is also checked not to be a pipe or device, which could be read without end.
    complaint
        Description of the problem, such as "level 2 cannot be read".
    missing
        The remedy if there is no such file.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    SgcldffError
        Of type `error_type`, with the file, the reason and the remedy. Errors of this package, interrupts, memory
        errors and missing packages pass unchanged.
    """
    try:
        if isinstance(file, Path) and file.exists() and not is_regular(file):
            raise ValueError("a pipe or a device is no file")
        yield
    except (SgcldffError, MemoryError, ModuleNotFoundError):
        raise
    except FileNotFoundError as error:
        raise MissingInputError(f"{file}: no such file; {missing}") from error
    except IsADirectoryError as error:
        raise error_type(f"{file}: cannot be read, since it is a folder; name a file") from error
    except Exception as error:
        reason = shorten(str(error), LONGEST_REASON, placeholder=" ...") or type(error).__name__
        raise error_type(f"{file}: {complaint} ({reason}); {remedy}") from error


def is_regular(path: Path) -> bool:
    """Return whether a path leads to a file or folder, not to a pipe or device."""
    mode = path.stat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
