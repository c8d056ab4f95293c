"""Where a registry is: a folder with a SQLite database, or an MLflow server."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sgcldff.errors import InputError
from sgcldff.specs import digest

DATABASE = "mlflow.db"


@dataclass(frozen=True)
class Address:
    """A registry's place."""

    uri: str
    """For MLflow; absolute; may hold a password."""
    folder: Path
    """For locks and copies, and, without a server, for database and artifacts."""

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
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            return cls(text.rstrip("/"), home / "sgcldff" / digest((text.rstrip("/"),)))
        scheme, _, rest = text.rpartition("://")
        if scheme not in ("", "sqlite"):
            raise InputError(f"{shown(text)}: give a folder, sqlite:///PATH or the http(s) address of an MLflow server")
        database = Path(rest.removeprefix("/")) if scheme else Path(text) / DATABASE
        return cls(f"sqlite:///{database.absolute()}", database.absolute().parent)

    @property
    def artifacts(self) -> str | None:
        """URI of the folder for artifacts; None where the server decides."""
        return (self.folder / "artifacts").as_uri() if self.uri.startswith("sqlite:") else None

    def __str__(self) -> str:
        return shown(self.uri)


def shown(uri: str) -> str:
    """Give a URI without user and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri
