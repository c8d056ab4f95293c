"""Stores behind fsspec: reaching them within bounded time, and telling in plain words what went wrong.

Credentials come from the environment, as fsspec and the store's own library read them (`AWS_ACCESS_KEY_ID`,
`AWS_PROFILE`, `AWS_ENDPOINT_URL`, `FSSPEC_S3_ANON` and so on). None is kept, and none is shown: messages name a URL
without user, password and signature, and errors of libraries, which may quote it whole, are then not chained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
from aiohttp import ClientError, ClientResponseError, ClientTimeout
from botocore.exceptions import (
    BotoCoreError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)
from botocore.exceptions import ClientError as S3ClientError
from fsspec.config import conf

from sgcldff.core.disks import is_disk_full
from sgcldff.core.errors import InputError, MissingInputError, ServiceError, SgcldffError
from sgcldff.core.locations import shown

PATIENCE_S = 25
"""A store that has not told of an object by then is taken for dead."""
LISTING_S = 600
"""Longest time that the listing of a slide's parts may take."""
CONNECT_S = 8
STALL_S = 10
"""Longest time without a byte."""
FAILURES = (OSError, ClientError, BotoCoreError, S3ClientError)
"""What stores raise: their libraries' errors, and those of the system."""
S3, HTTP = ("s3", "s3a"), ("http", "https")
NO_CREDENTIALS = (PermissionError, NoCredentialsError, PartialCredentialsError, ProfileNotFound)

Filesystem = Any
"""An fsspec file system."""
Info = dict[str, Any]


def filesystem(uri: str) -> tuple[Filesystem, str]:
    """Return the store of a URL and the path in it. Nothing is asked of the store yet.

    Raises
    ------
    InputError
        If no package that is installed knows the protocol.
    """
    protocol = protocol_of(uri)
    try:
        store, path = fsspec.core.url_to_fs(uri, **_options(uri, protocol))
    except ImportError as error:
        raise InputError(f"{shown(uri)}: {protocol}:// needs a package that is not installed: {error}") from _cause(
            uri, error
        )
    except ValueError as error:
        known = "s3, http, https, and, each with its package, gs (gcsfs), az (adlfs) and others of fsspec"
        raise InputError(f"{shown(uri)}: cannot be opened as {protocol}://; give one of {known}") from _cause(
            uri, error
        )
    return store, path


def protocol_of(uri: str) -> str:
    """Name the protocol of a URL."""
    return uri.partition("://")[0].lower()


def _options(uri: str, protocol: str) -> dict[str, Any]:
    """Bound the waiting, and never answer from an old listing; what the user configured for fsspec goes first."""
    ours: dict[str, Any] = {"use_listings_cache": False}
    if protocol in S3:
        retries = {"max_attempts": 2, "mode": "standard"}
        ours["config_kwargs"] = {"connect_timeout": CONNECT_S, "read_timeout": STALL_S, "retries": retries}
    if protocol in HTTP:
        ours["client_kwargs"] = {"timeout": ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S)}
        ours["encoded"] = "%" in uri
    return {name: value for name, value in ours.items() if name not in conf.get(protocol, {})}


def ask(store: Filesystem, question: str, path: str, patience_s: float | None = None) -> Any:
    """Put a question about a path (`info`, `ls`, `find`) to a store and wait for a bounded time."""
    options: dict[str, Any] = {"timeout": patience_s or PATIENCE_S} if store.async_impl else {}
    if question != "info":
        options["detail"] = True
    return getattr(store, question)(path, **options)


def info(uri: str) -> Info | None:
    """Tell of an object, or of a folder; None where there is nothing.

    Raises
    ------
    InputError
        If the store refuses access.
    ServiceError
        If it does not answer.
    """
    store, path = filesystem(uri)
    try:
        with store_errors(uri):
            told: Info = ask(store, "info", path)
    except MissingInputError:
        return None
    return told


def listing(uri: str) -> tuple[list[str], list[str]]:
    """Name the folders and the files right below a folder."""
    store, path = filesystem(uri)
    with store_errors(uri):
        found = ask(store, "ls", path, LISTING_S)
    names: dict[str, list[str]] = {"directory": [], "file": []}
    for item in found:
        if item["name"].rstrip("/") != path.rstrip("/") and not item["name"].endswith("/"):
            names[item["type"]].append(item["name"].rpartition("/")[2])
    return names["directory"], names["file"]


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what a store's library raises into an error that names the object, the reason and the remedy."""
    try:
        yield
    except SgcldffError:
        raise
    except FAILURES as error:
        raise _told(shown(uri), error) from _cause(uri, error)


def passes(error: Exception) -> bool:
    """Return whether a failure may pass when tried again: not if the store refused, or the disk is full."""
    origin, status = _origin(error)
    refused = isinstance(origin, (*NO_CREDENTIALS, FileNotFoundError)) or (status is not None and status < 500)
    return not refused and not is_disk_full(origin)


def _told(name: str, error: Exception) -> SgcldffError:
    origin, status = _origin(error)
    reason = _reason(origin, status)
    if isinstance(origin, NO_CREDENTIALS) or status in (401, 403):
        return InputError(
            f"{name}: access is refused ({reason}); put credentials that may read it into the environment"
            " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say; FSSPEC_S3_ANON=true for a public bucket)"
        )
    if isinstance(origin, FileNotFoundError) or status in (404, 410):
        return MissingInputError(f"{name}: is not there; look at the name and at the bucket")
    if is_disk_full(origin):
        return InputError(
            f"{name}: no room for its local copy ({reason}); name a larger disk in SGCLDFF_CACHE, or lower"
            " SGCLDFF_CACHE_GB"
        )
    return ServiceError(
        f"{name}: the store does not answer as it should ({reason}); look whether it runs and can be reached from here"
        " (AWS_ENDPOINT_URL, proxy), then run again"
    )


def _origin(error: Exception) -> tuple[BaseException, int | None]:
    """Find what happened: fsspec reports whatever goes wrong over HTTP as a file that is not there."""
    cause = error.__cause__
    origin = cause if isinstance(error, FileNotFoundError) and isinstance(cause, (ClientError, OSError)) else error
    if isinstance(origin, S3ClientError):
        return origin, origin.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return origin, origin.status if isinstance(origin, ClientResponseError) else None


def _reason(error: BaseException, status: int | None) -> str:
    """Name the failure without the library's own words, which may hold the URL."""
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return f"nothing came for {STALL_S} to {PATIENCE_S} s"
    return f"status {status}" if status else getattr(error, "strerror", None) or type(error).__name__


def _cause(uri: str, error: Exception) -> Exception | None:
    return error if shown(uri) == uri else None
