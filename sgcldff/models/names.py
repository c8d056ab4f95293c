"""Names of models, and whether there are such models, as far as that is known without MLflow."""

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.locations import Address
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import ModelSpec
from sgcldff.models.checkpoint import SPEC_FILE, open_spec, read_spec, saved_digest
from sgcldff.models.released import RELEASED, released, released_folder

FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, released or a folder"
"""What names a model."""
REGISTRY = "models:/"
"""How the name of a registered model begins."""
REGISTERED = re.compile(rf"{REGISTRY}(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>[0-9]+))")


class Reference(NamedTuple):
    """A registered model: one of alias and number is given."""

    name: str
    alias: str | None
    number: str | None


def parse_reference(text: str) -> Reference:
    """Read `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises
    ------
    InputError
        If it is neither.
    """
    match = REGISTERED.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is no model: give {FORMS}")
    return Reference(match["name"], match["alias"], match["number"])


@dataclass(frozen=True)
class Registered:
    """What a registry knows by one name."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    """Alias -> version."""
    versions: Sequence[str] = ()

    def __str__(self) -> str:
        named = ", ".join(f"{alias} (version {number})" for alias, number in self.aliases.items()) or "none"
        return f"aliases {named}, versions {', '.join(self.versions)}; name one of these"


def registered(address: Address) -> dict[str, Registered] | None:
    """List the models of a registry that is a SQLite file; None where only MLflow can tell.

    The file is read as MLflow writes it, and not changed; a file that is not there yet holds nothing.
    """
    if address.database is None:
        return None
    if not address.database.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"file:{quote(str(address.database))}?mode=ro", uri=True)) as database:
            names = [name for (name,) in database.execute("SELECT name FROM registered_models ORDER BY name")]
            aliases = database.execute("SELECT name, alias, version FROM registered_model_aliases").fetchall()
            versions = database.execute(
                "SELECT name, version FROM model_versions WHERE current_stage != 'Deleted_Internal' ORDER BY version"
            ).fetchall()
    except sqlite3.Error:
        return None
    return {
        name: Registered(
            {alias: str(number) for owner, alias, number in aliases if owner == name},
            [str(number) for owner, number in versions if owner == name],
        )
        for name in names
    }


def require_model(reference: str, address: Address) -> ModelSpec | None:
    """Refuse a model that is known not to be there; give its spec where it lies in a folder.

    Raises
    ------
    InputError
        If there is no such model; the message lists what there is.
    """
    if reference == RELEASED:
        return read_spec(released_folder() / SPEC_FILE)
    if not reference.startswith(REGISTRY):
        return open_spec(require_folder(reference))
    name, alias, number = parse_reference(reference)
    known = registered(address)
    if known is None:
        return None
    if name not in known:
        raise InputError(f"{reference}: no such model at {address}: {existing(known)}")
    if alias is not None and alias not in known[name].aliases:
        raise InputError(f"{reference}: no such alias at {address}: {known[name]}")
    if number is not None and str(int(number)) not in known[name].versions:
        raise InputError(f"{reference}: no such version at {address}: {known[name]}")
    return None


def unregistered(reference: str) -> tuple[ModelRef, Path]:
    """Find a model that is in no registry: `released`, or a folder.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    if reference == RELEASED:
        return released()
    folder = require_folder(reference)
    return ModelRef(folder.resolve().name, "folder", saved_digest(folder)), folder


def require_folder(reference: str) -> Path:
    """Raise `MissingInputError` unless a folder of that name is there."""
    folder = Path(reference)
    if not folder.is_dir():
        raise MissingInputError(f"{reference}: no such folder; give {FORMS}")
    return folder


def existing(names: Iterable[str]) -> str:
    """Say which models are registered."""
    return f"registered models are {', '.join(names) or 'none yet'}; train, or name {FORMS}"
