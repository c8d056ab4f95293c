"""Names of models, and checks that they exist, as far as possible without MLflow."""

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

MODEL_FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, released or a folder"
"""Ways to name a model."""
REGISTRY_PREFIX = "models:/"
"""Prefix of the names of registered models."""
REGISTERED_NAME = re.compile(rf"{REGISTRY_PREFIX}(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>[0-9]+))")


class ModelName(NamedTuple):
    """The name of a registered model, with either an alias or a version number."""

    name: str
    alias: str | None
    number: str | None


def parse_model_name(text: str) -> ModelName:
    """Parse `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises
    ------
    InputError
        If it is neither.
    """
    match = REGISTERED_NAME.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is no model: give {MODEL_FORMS}")
    return ModelName(match["name"], match["alias"], match["number"])


@dataclass(frozen=True)
class RegisteredModel:
    """The aliases and versions of one registered model."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    """Alias -> version."""
    versions: Sequence[str] = ()

    def __str__(self) -> str:
        aliases = ", ".join(f"{alias} (version {number})" for alias, number in self.aliases.items()) or "none"
        return f"aliases {aliases}, versions {', '.join(self.versions)}; name one of these"


def models_in_registry(address: Address) -> dict[str, RegisteredModel] | None:
    """List the models of a registry in a SQLite file; None if that requires MLflow.

    MLflow's tables are read directly and not changed; a file that does not exist yet is an empty registry.
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
        name: RegisteredModel(
            {alias: str(number) for owner, alias, number in aliases if owner == name},
            [str(number) for owner, number in versions if owner == name],
        )
        for name in names
    }


def require_model(reference: str, address: Address) -> ModelSpec | None:
    """Check that a model exists, as far as possible, and return its spec if it is in a folder.

    Raises
    ------
    InputError
        If there is no such model; the message lists those that exist.
    """
    if reference == RELEASED:
        return read_spec(released_folder() / SPEC_FILE)
    if not reference.startswith(REGISTRY_PREFIX):
        return open_spec(require_folder(reference))
    name, alias, number = parse_model_name(reference)
    known = models_in_registry(address)
    if known is None:
        return None
    if name not in known:
        raise InputError(f"{reference}: no such model at {address}: {known_models_hint(known)}")
    if alias is not None and alias not in known[name].aliases:
        raise InputError(f"{reference}: no such alias at {address}: {known[name]}")
    if number is not None and str(int(number)) not in known[name].versions:
        raise InputError(f"{reference}: no such version at {address}: {known[name]}")
    return None


def resolve_unregistered(reference: str) -> tuple[ModelRef, Path]:
    """Find a model outside the registry: `released`, or a folder.

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
    """Return the folder; raise `MissingInputError` if it does not exist."""
    folder = Path(reference)
    if not folder.is_dir():
        raise MissingInputError(f"{reference}: no such folder; give {MODEL_FORMS}")
    return folder


def known_models_hint(names: Iterable[str]) -> str:
    """Return a phrase for error messages that lists the registered models."""
    return f"registered models are {', '.join(names) or 'none yet'}; train, or name {MODEL_FORMS}"
