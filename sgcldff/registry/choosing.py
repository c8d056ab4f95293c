"""Which model is used where none is named, or the one that is."""

from dataclasses import dataclass
from pathlib import Path

from sgcldff.records import ModelRef
from sgcldff.registry.registry import Registry
from sgcldff.released import RELEASED


@dataclass(frozen=True)
class Choice:
    """A model, and why it is this one."""

    reference: str
    """For `Registry.resolve`. Where no model was named this is a version, which stays the same."""
    model: ModelRef
    folder: Path
    """Holds `spec.json` and `weights.safetensors`."""
    why: str

    def __str__(self) -> str:
        return f"{self.model.name} {self.model.version} ({self.model.digest}): {self.why}"


def choose(registry: Registry, reference: str | None = None) -> Choice:
    """Find the model that is named; where none is, the champion, and where there is no champion, the released model.

    Raises
    ------
    InputError
        If there is no such model, or the released one is missing.
    ServiceError
        If the registry's server does not answer: the released model is no way out of that.
    """
    chosen, why = _wish(registry, reference)
    return Choice(chosen, *registry.resolve(chosen), why)


def _wish(registry: Registry, reference: str | None) -> tuple[str, str]:
    if reference is not None:
        return reference, "as asked"
    champion = registry.champion()
    if champion is not None:
        return champion, f"the champion at {registry.address}"
    return RELEASED, f"the released model, since there is no champion at {registry.address}"
