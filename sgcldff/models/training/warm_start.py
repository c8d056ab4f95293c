"""Warm start: a network that starts from the weights of another, as far as they fit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from sgcldff.core.errors import InputError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.settings import ModelSpec, Pretrained
from sgcldff.models.model import Model, load_model
from sgcldff.models.nets import build

EXTRA_CLASS = "?"
"""A class that no label space contains."""


@dataclass(frozen=True)
class WarmStart:
    """A model to be trained from the weights of another, its parent."""

    spec: ModelSpec
    parent: Path
    """Folder of the parent."""


@dataclass(frozen=True)
class Inherited:
    """What a network took over from its parent."""

    parent: str
    """Digest of the parent's weights."""
    transferred: int
    """Number of tensors taken over, some of them only for the shared classes."""
    reinitialised: tuple[str, ...]
    """Tensors that the parent lacks or has in another shape."""
    new_classes: tuple[str, ...]
    """Classes that the parent lacks."""

    def __str__(self) -> str:
        parts = [f"{self.transferred} tensors taken over from {self.parent}"]
        parts += [f"reinitialised: {', '.join(self.reinitialised)}"] if self.reinitialised else []
        parts += [f"new classes: {', '.join(self.new_classes)}"] if self.new_classes else []
        return "; ".join(parts)


def start_from_parent(start: WarmStart) -> tuple[nn.Module, Inherited]:
    """Build a network and load those weights of its parent that fit.

    Label spaces may differ: class-specific weights are taken over by the name of the class.

    Raises
    ------
    InputError
        If the parent is not a model, or none of its weights fit.
    """
    parent = load_model(start.parent, "cpu")
    spec = replace(start.spec, net=replace(start.spec.net, pretrained=Pretrained.OFF))
    net = build(spec)
    state = net.state_dict()
    fitting = dict(_fitting(state, parent, spec))
    if not any(parameter in fitting for parameter, _ in net.named_parameters()):
        raise InputError(
            f"{start.parent}: no weights of this {parent.spec.net.name!r} fit {spec.net.name!r}: start from scratch"
        )
    net.load_state_dict(state | fitting)
    new = tuple(name for name in spec.labels.classes if name not in parent.spec.labels.classes)
    return net, Inherited(parent.digest, len(fitting), tuple(name for name in state if name not in fitting), new)


def _fitting(state: dict[str, Tensor], parent: Model, spec: ModelSpec) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and new values of the tensors that the parent provides, in full or for shared classes."""
    parent_state, old, new = parent.net.state_dict(), parent.spec.labels.classes, spec.labels.classes
    shared = [name for name in new if name in old]
    per_class = _per_class(state, spec) if old != new else frozenset()
    for name, tensor in state.items():
        rows = name in per_class
        if name not in parent_state or parent_state[name].shape[rows:] != tensor.shape[rows:]:
            continue
        value = parent_state[name]
        if rows:
            value = tensor.clone()
            value[[new.index(label) for label in shared]] = parent_state[name][[old.index(label) for label in shared]]
        yield name, value


def _per_class(state: dict[str, Tensor], spec: ModelSpec) -> frozenset[str]:
    """Return the names of the tensors with one row per class: those that grow with an additional class."""
    larger = build(replace(spec, labels=LabelSpace((*spec.labels.classes, EXTRA_CLASS)))).state_dict()
    return frozenset(name for name, tensor in state.items() if tensor.shape != larger[name].shape)
