"""Remote stores, accessed by fsspec with bounded waiting and clear errors.

Credentials come from the environment, as read by fsspec and the store's own library (`AWS_ACCESS_KEY_ID`,
`AWS_PROFILE`, `AWS_ENDPOINT_URL`, `FSSPEC_S3_ANON` and so on). They are neither stored nor shown: messages contain URLs
without user, password and signature, and errors of libraries, which may quote the full URL, are then not chained.
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

STORE_PATIENCE_S = 25
"""Longest time to wait for the properties of an object, s."""
LISTING_S = 600
"""Longest time to wait for a list of files, s."""
CONNECT_S = 8
STALL_S = 10
"""Longest time without receiving data, s."""
FAILURES = (OSError, ClientError, BotoCoreError, S3ClientError)
"""Errors that stores raise: those of their libraries and of the system."""
S3, HTTP = ("s3", "s3a"), ("http", "https")
NO_CREDENTIALS = (PermissionError, NoCredentialsError, PartialCredentialsError, ProfileNotFound)

Filesystem = Any
"""An fsspec file system."""
Info = dict[str, Any]


def filesystem(uri: str) -> tuple[Filesystem, str]:
    """Return the store of a URL and the path in it, without contacting the store.

    Raises
    ------
    InputError
        If no installed package supports the protocol.
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
        raise InputError(f"{shown(uri)}: cannot be opened as {protocol}://; use one of {known}") from _cause(uri, error)
    return store, path


def protocol_of(uri: str) -> str:
    """Return the protocol of a URL."""
    return uri.partition("://")[0].lower()


def _options(uri: str, protocol: str) -> dict[str, Any]:
    """Return options for bounded waiting without cached listings; the user's fsspec settings take precedence."""
    defaults: dict[str, Any] = {"use_listings_cache": False}
    if protocol in S3:
        retries = {"max_attempts": 2, "mode": "standard"}
        defaults["config_kwargs"] = {"connect_timeout": CONNECT_S, "read_timeout": STALL_S, "retries": retries}
    if protocol in HTTP:
        defaults["client_kwargs"] = {"timeout": ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S)}
        defaults["encoded"] = "%" in uri
    return {name: value for name, value in defaults.items() if name not in conf.get(protocol, {})}


def ask(store: Filesystem, method: str, path: str, patience_s: float | None = None) -> Any:
    """Call a method of a store (`info`, `ls`, `find`) for a path, with a time limit."""
    options: dict[str, Any] = {"timeout": patience_s or STORE_PATIENCE_S} if store.async_impl else {}
    if method != "info":
        options["detail"] = True
    return getattr(store, method)(path, **options)


def info(uri: str) -> Info | None:
    """Return the properties of an object or folder; None if there is neither.

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
            properties: Info = ask(store, "info", path)
    except MissingInputError:
        return None
    return properties


def require_bucket(uri: str) -> None:
    """Check that a store answers and has the bucket of a URL.

    Raises
    ------
    InputError
        If it has not, or access is refused.
    ServiceError
        If it does not answer.
    """
    bucket = f"{protocol_of(uri)}://{filesystem(uri)[1].partition('/')[0]}"
    if info(bucket) is None:
        raise MissingInputError(f"{shown(uri)}: there is no {bucket}; create it, or name another")


def listing(uri: str) -> tuple[list[str], list[str]]:
    """Return the names of the subfolders and the files of a folder."""
    store, path = filesystem(uri)
    with store_errors(uri):
        items = ask(store, "ls", path, LISTING_S)
    names: dict[str, list[str]] = {"directory": [], "file": []}
    for item in items:
        if item["name"].rstrip("/") != path.rstrip("/") and not item["name"].endswith("/"):
            names[item["type"]].append(item["name"].rpartition("/")[2])
    return names["directory"], names["file"]


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Convert errors of a store's library into errors that name the object, the reason and the remedy."""
    try:
        yield
    except SgcldffError:
        raise
    except FAILURES as error:
        raise _store_error(shown(uri), error) from _cause(uri, error)


def is_transient(error: Exception) -> bool:
    """Return whether a retry may succeed: not if the store refused access, or the disk is full."""
    origin, status = _origin(error)
    refused = isinstance(origin, (*NO_CREDENTIALS, FileNotFoundError)) or (status is not None and status < 500)
    return not refused and not is_disk_full(origin)


def _store_error(name: str, error: Exception) -> SgcldffError:
    origin, status = _origin(error)
    reason = _reason(origin, status)
    if isinstance(origin, NO_CREDENTIALS) or status in (401, 403):
        return InputError(
            f"{name}: access is refused ({reason}); put credentials with read access into the environment"
            " (such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; FSSPEC_S3_ANON=true for a public bucket)"
        )
    if isinstance(origin, FileNotFoundError) or status in (404, 410):
        return MissingInputError(f"{name}: does not exist; check the name and the bucket")
    if is_disk_full(origin):
        return InputError(
            f"{name}: no room for its local copy ({reason}); name a larger disk in SGCLDFF_CACHE, or lower"
            " SGCLDFF_CACHE_GB"
        )
    return ServiceError(
        f"{name}: the store does not answer as it should ({reason}); check that it runs and is reachable from here"
        " (AWS_ENDPOINT_URL, proxy), then run again"
    )


def _origin(error: Exception) -> tuple[BaseException, int | None]:
    """Return the original error and the HTTP status; fsspec reports any HTTP failure as a missing file."""
    cause = error.__cause__
    origin = cause if isinstance(error, FileNotFoundError) and isinstance(cause, (ClientError, OSError)) else error
    if isinstance(origin, S3ClientError):
        return origin, origin.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return origin, origin.status if isinstance(origin, ClientResponseError) else None


def _reason(error: BaseException, status: int | None) -> str:
    """Describe a failure without the library's message, which may contain the URL."""
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return f"no data for {STALL_S} to {STORE_PATIENCE_S} s"
    return f"status {status}" if status else getattr(error, "strerror", None) or type(error).__name__


def _cause(uri: str, error: Exception) -> Exception | None:
    return error if shown(uri) == uri else None
