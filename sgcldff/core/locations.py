"""Locations: a model registry (a folder with a database, or an MLflow server), a slide behind a URL, the caches."""

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote

from platformdirs import user_cache_path

from sgcldff.core.disks import accepts_files, private_folder
from sgcldff.core.errors import InputError, readable
from sgcldff.core.settings import digest
from sgcldff.core.wording import first_few

logger = logging.getLogger(__name__)

CACHE_NAME = "sgcldff"
"""Name of this package's folder in the user's cache."""
DATABASE = "mlflow.db"
URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]+)://(?:[^/]*@)?(?P<place>[^?#]*)(?P<query>.*)", re.DOTALL)
"""A URL; user and password precede an @."""
SQLITE_SCHEMES = ("sqlite", "sqlite+pysqlite")
LOCAL_SCHEMES = ("file", "local")
"""Protocols for files of this machine."""


@dataclass(frozen=True)
class Address:
    """The location of a model registry."""

    uri: str
    """Tracking URI for MLflow; absolute; may contain a password."""
    folder: Path
    """Folder for locks and copies and, without a server, for database and artifacts."""
    database: Path | None = None
    """SQLite file, which need not exist yet; None for a server."""

    @classmethod
    def parse(cls, location: str | Path) -> "Address":
        """Parse a folder, `sqlite:///PATH`, or the http(s) address of a server.

        Raises
        ------
        InputError
            If it is something else.
        """
        text = str(location)
        if text.startswith(("http://", "https://")):
            return cls(text.rstrip("/"), user_cache() / digest((text.rstrip("/"),)))
        scheme, _, rest = text.rpartition("://")
        if scheme not in ("", *SQLITE_SCHEMES):
            raise InputError(f"{shown(text)}: give a folder, sqlite:///PATH or the http(s) address of an MLflow server")
        name, separator, query = rest.partition("?") if scheme else (text, "", "")
        path = Path(unquote(name.removeprefix("/"))) if scheme else Path(name) / DATABASE
        database = path.absolute()
        return cls(sqlite_uri(database) + separator + query, database.parent, database)

    @property
    def artifacts(self) -> str | None:
        """URI of the artifact folder; None where the server decides."""
        return (self.folder / "artifacts").as_uri() if self.database else None

    def __str__(self) -> str:
        return shown(self.uri)


def sqlite_uri(database: Path, driver: str = "pysqlite") -> str:
    """Return the SQLAlchemy address of a database of this machine, whatever characters its path contains.

    The driver is named where the path needs escapes: MLflow takes whatever follows `sqlite:///` as a path, escapes
    included, and creates that folder.

    Raises
    ------
    InputError
        If the path is not UTF-8, which SQLite requires.
    """
    path = str(database)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"{os.fsencode(path)!r}: the name is not UTF-8; name another folder") from None
    escaped = path.replace("%", "%25").replace("?", "%3F")
    scheme = "sqlite" if driver == "pysqlite" and escaped == path else f"sqlite+{driver}"
    return f"{scheme}:///{escaped}"


def user_cache() -> Path:
    """Return this user's folder for files that can be fetched or computed again.

    If it is not writable, a private temporary folder replaces it in this process and its children, after one warning.
    """
    folder = user_cache_path(CACHE_NAME, appauthor=False)
    if str(folder).startswith("~") or not accepts_files(folder):
        private = private_folder(CACHE_NAME)
        logger.warning(
            "nothing can be written to the cache %s: %s is used instead; set XDG_CACHE_HOME to name another folder",
            folder.parent,
            private,
        )
        os.environ["XDG_CACHE_HOME"] = str(private)
        os.environ.setdefault("MPLCONFIGDIR", str(private / "matplotlib"))
        return private / CACHE_NAME
    return folder


def shown(uri: str) -> str:
    """Return a URI without user, password and signature, fit for messages, logs and reports.

    A query that assigns values (`?X-Amz-Signature=...`) is dropped; of a path of this machine, only what is not UTF-8
    is replaced.
    """
    url = URL.fullmatch(uri)
    if url is None or url["scheme"] in SQLITE_SCHEMES:
        return readable(uri)
    query = "" if "=" in url["query"] else url["query"]
    return readable(f"{url['scheme']}://{url['place']}{query}")


def named(locations: Iterable[str]) -> str:
    """Name files, folders or models for the name of a run, without where they lie.

    Examples
    --------
    >>> named(["/slides/a.svs", "s3://lab/b.svs?X-Amz-Signature=1", "models:/sgcldff@champion"])
    'a.svs; b.svs; sgcldff@champion'
    """
    return first_few([PurePath(shown(location)).name for location in locations])


def is_remote(location: str) -> bool:
    """Return whether this is a URL of a remote store, not a path or a `file://` address of this machine."""
    url = URL.fullmatch(location)
    return url is not None and url["scheme"].lower() not in LOCAL_SCHEMES


def local_path(location: str) -> Path:
    """Parse a path, or a `file://` address of this machine with or without %-escapes."""
    scheme, _, rest = location.rpartition("://")
    if scheme.lower() not in LOCAL_SCHEMES:
        return Path(location)
    return Path(rest) if Path(rest).exists() else Path(unquote(rest))
