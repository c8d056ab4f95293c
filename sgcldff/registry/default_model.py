"""Which model is used where none is named, or the one that is."""

from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.locations import Address
from sgcldff.core.records import ModelRef
from sgcldff.models.names import REGISTRY_PREFIX, resolve_unregistered
from sgcldff.models.released import RELEASED, released


@dataclass(frozen=True)
class Choice:
    """A model, and why it is this one."""

    reference: str
    """For `choose`. Where no model was named this is a version, which stays the same."""
    model: ModelRef
    folder: Path
    """Holds `spec.json` and `weights.safetensors`."""
    why: str

    def __str__(self) -> str:
        return f"{self.model.name} {self.model.version} ({self.model.digest}): {self.why}"


def choose(location: str | Path, reference: str | None = None) -> Choice:
    """Find the model that is named; where none is, the champion, and where there is no champion, the released model.

    Parameters
    ----------
    location
        Of the registry, as `Registry` takes it. It is not opened for a model that is in none, nor made.
    reference
        `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released`, or a folder.

    Raises
    ------
    InputError
        If there is no such model, or the released one is missing.
    ServiceError
        If the registry's server does not answer: the released model is no way out of that.
    """
    if reference is not None and not reference.startswith(REGISTRY_PREFIX):
        return Choice(reference, *resolve_unregistered(reference), "as asked")
    address = Address.parse(location)
    database = address.database
    if reference is not None or database is None or database.is_file():
        from sgcldff.registry.versions import Registry

        registry = Registry(location)
        if reference is not None:
            return Choice(reference, *registry.resolve(reference), "as asked")
        if (champion := registry.champion()) is not None:
            return Choice(champion, *registry.resolve(champion), f"the champion at {address}")
    return Choice(RELEASED, *released(), f"the released model, since there is no champion at {address}")
