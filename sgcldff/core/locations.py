"""Where things are: a registry (a folder with a database, or an MLflow server), a slide behind a URL, the caches."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from sgcldff.core.disks import accepts_files, private_folder
from sgcldff.core.errors import InputError
from sgcldff.core.settings import digest

logger = logging.getLogger(__name__)

NAME = "sgcldff"
"""Of this package's folder among the caches of others."""
DATABASE = "mlflow.db"
PARTS = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]+)://(?:[^/]*@)?(?P<place>[^?#]*)(?P<query>.*)", re.DOTALL)
"""A URL; what stands before an @ is user and password."""
SQLITE = ("sqlite", "sqlite+pysqlite")
HERE = ("file", "local")
"""Protocols that mean this machine's own files."""


@dataclass(frozen=True)
class Address:
    """A registry's place."""

    uri: str
    """For MLflow; absolute; may hold a password."""
    folder: Path
    """For locks and copies, and, without a server, for database and artifacts."""
    database: Path | None = None
    """SQLite's file, which need not be there yet; None where a server answers."""

    @classmethod
    def parse(cls, location: str | Path) -> "Address":
        """Read a folder, `sqlite:///PATH`, or the http(s) address of a server.

        Raises
        ------
        InputError
            If it is something else.
        """
        text = str(location)
        if text.startswith(("http://", "https://")):
            return cls(text.rstrip("/"), user_cache() / digest((text.rstrip("/"),)))
        scheme, _, rest = text.rpartition("://")
        if scheme not in ("", *SQLITE):
            raise InputError(f"{shown(text)}: give a folder, sqlite:///PATH or the http(s) address of an MLflow server")
        place, mark, query = rest.partition("?") if scheme else (text, "", "")
        path = Path(unquote(place.removeprefix("/"))) if scheme else Path(place) / DATABASE
        database = path.absolute()
        return cls(sqlite_uri(database) + mark + query, database.parent, database)

    @property
    def artifacts(self) -> str | None:
        """URI of the folder for artifacts; None where the server decides."""
        return (self.folder / "artifacts").as_uri() if self.database else None

    def __str__(self) -> str:
        return shown(self.uri)


def sqlite_uri(database: Path, driver: str = "pysqlite") -> str:
    """Give the address at which SQLAlchemy finds a database of this machine, whatever its folders are called.

    Where an escape is needed the driver is named: of `sqlite:///` MLflow takes the rest for a path, escapes included,
    and makes its folder.

    Raises
    ------
    InputError
        If the path is no UTF-8, which SQLite asks for.
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
    """Give this user's folder for what can be fetched or computed again.

    Where nothing can be written to it, a private temporary folder takes its place, in this process and in those that it
    starts, after one warning.
    """
    chosen = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  Path raises where there is no home
    if chosen.startswith("~") or not accepts_files(Path(chosen) / NAME):
        unusable, chosen = chosen, str(private_folder(NAME))
        logger.warning(
            "nothing can be written to the cache %s: %s is used instead; set XDG_CACHE_HOME to name another folder",
            unusable,
            chosen,
        )
        os.environ["XDG_CACHE_HOME"] = chosen
        os.environ.setdefault("MPLCONFIGDIR", f"{chosen}/matplotlib")
    return Path(chosen) / NAME


def shown(uri: str) -> str:
    """Give a URI without user, password and signature, as it may stand in messages, logs and reports.

    A query is left out where it assigns values (`?X-Amz-Signature=...`); a path of this machine is given as it is.
    """
    parts = PARTS.fullmatch(uri)
    if parts is None or parts["scheme"] in SQLITE:
        return uri
    query = "" if "=" in parts["query"] else parts["query"]
    return f"{parts['scheme']}://{parts['place']}{query}"


def is_remote(place: str) -> bool:
    """Tell a URL of a store from a path of this machine (`file://` is one, too)."""
    parts = PARTS.fullmatch(place)
    return parts is not None and parts["scheme"].lower() not in HERE


def local_path(place: str) -> Path:
    """Read a path, or a `file://` address of this machine, with or without %-escapes."""
    scheme, _, rest = place.rpartition("://")
    if scheme.lower() not in HERE:
        return Path(place)
    return Path(rest) if Path(rest).exists() else Path(unquote(rest))
