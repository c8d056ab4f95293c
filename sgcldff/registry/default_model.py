"""The model that is used: the one that is named, or the default."""

from dataclasses import dataclass, field
from pathlib import Path

from sgcldff.core.errors import MissingInputError
from sgcldff.core.locations import Address
from sgcldff.core.records import ModelRef
from sgcldff.models.checkpoint import original_digest
from sgcldff.models.names import REGISTRY_PREFIX, models_in_registry, resolve_unregistered
from sgcldff.models.released import RELEASED, released


@dataclass(frozen=True)
class ChosenModel:
    """A model, and why it was chosen."""

    reference: str
    """Reference for `choose_model`. If no model was named it is a fixed version, not an alias."""
    model: ModelRef
    folder: Path
    """Holds `spec.json` and `weights.safetensors`."""
    why: str
    registry: str | Path = field(default="", repr=False)
    """Location of the registry in which it was looked up; may contain a password."""

    def __str__(self) -> str:
        return f"{self.model.name} {self.model.version} ({self.model.digest}): {self.why}"


def choose_model(location: str | Path, reference: str | None = None) -> ChosenModel:
    """Find the model that is named, by default the champion or, if there is no champion, the released model.

    Parameters
    ----------
    location
        Location of the registry, as for `Registry`. It is never created, and not opened for an unregistered model.
    reference
        `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released`, or a folder.

    Raises
    ------
    InputError
        If there is no such model, or the released one is missing.
    ServiceError
        If the registry's server does not answer; the released model is not used instead.
    """
    if reference is not None and not reference.startswith(REGISTRY_PREFIX):
        return ChosenModel(reference, *resolve_unregistered(reference), "as requested", location)
    address = Address.parse(location)
    if reference is not None or models_in_registry(address) != {}:
        from sgcldff.registry import Registry

        registry = Registry(location)
        if reference is not None:
            return ChosenModel(reference, *registry.resolve(reference), "as requested", location)
        if (champion := registry.champion()) is not None:
            return ChosenModel(champion, *registry.resolve(champion), f"the champion at {address}", location)
    why = f"the released model, since there is no champion at {address}"
    return ChosenModel(RELEASED, *released(), why, location)


def original_of(location: str | Path, chosen: ChosenModel) -> ChosenModel:
    """Return the model from which a calibrated one was made, or the model itself if it is not calibrated.

    Raises
    ------
    MissingInputError
        If the original is neither registered nor the released model.
    """
    digest = original_digest(chosen.folder)
    if digest is None:
        return chosen
    why = f"the original of {chosen.model.name} {chosen.model.version}"
    if released()[0].digest == digest:
        return ChosenModel(RELEASED, *released(), why)
    if chosen.reference.startswith(REGISTRY_PREFIX):
        from sgcldff.registry import Registry

        registry = Registry(location, chosen.model.name)
        for version in registry.versions():
            if version.ref.digest == digest:
                reference = f"{REGISTRY_PREFIX}{version.ref.name}/{version.ref.version}"
                return ChosenModel(reference, *registry.resolve(reference), why)
    raise MissingInputError(f"{chosen.folder}: the original ({digest}) is not registered: name its folder with --model")
