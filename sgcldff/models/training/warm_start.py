"""A network that begins with the weights of another: what fits is taken over, and what does not is told."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from sgcldff.core.errors import InputError
from sgcldff.core.labels import LabelSpace
from sgcldff.core.settings import ModelSpec, Pretrained
from sgcldff.models.model import Model, load_model
from sgcldff.models.nets import build

ANOTHER = "?"
"""A class that no label space has."""


@dataclass(frozen=True)
class Successor:
    """A model that is to be trained from another's weights."""

    spec: ModelSpec
    parent: Path
    """Folder of the other model."""


@dataclass(frozen=True)
class Inherited:
    """What a network took over."""

    parent: str
    """Digest of the other's weights."""
    taken: int
    """Tensors taken over, of the classes that both know in part."""
    anew: tuple[str, ...]
    """Tensors that begin anew, since the other has none of that name and shape."""
    classes: tuple[str, ...]
    """Classes that the other does not tell."""

    def __str__(self) -> str:
        told = [f"{self.taken} tensors taken over from {self.parent}"]
        told += [f"begun anew: {', '.join(self.anew)}"] if self.anew else []
        told += [f"classes that are new: {', '.join(self.classes)}"] if self.classes else []
        return "; ".join(told)


def begin(successor: Successor) -> tuple[nn.Module, Inherited]:
    """Build a network and give it what fits of the weights of another.

    Label spaces may differ: what tells a class is taken over class by class, by name.

    Raises
    ------
    InputError
        If the other is no model, or nothing of it fits.
    """
    parent, spec = load_model(successor.parent, "cpu"), _unpretrained(successor.spec)
    net = build(spec)
    state = net.state_dict()
    fitting = dict(_fitting(state, parent, spec))
    if not any(parameter in fitting for parameter, _ in net.named_parameters()):
        raise InputError(
            f"{successor.parent}: nothing of this {parent.spec.net.name!r} fits {spec.net.name!r}: start from scratch"
        )
    net.load_state_dict(state | fitting)
    new = tuple(name for name in spec.labels.classes if name not in parent.spec.labels.classes)
    return net, Inherited(parent.digest, len(fitting), tuple(name for name in state if name not in fitting), new)


def _fitting(state: dict[str, Tensor], parent: Model, spec: ModelSpec) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state with what they take over."""
    old, pairs = parent.net.state_dict(), _shared(parent.spec.labels, spec.labels)
    by_class = _by_class(state, spec) if parent.spec.labels.classes != spec.labels.classes else ()
    for name, tensor in state.items():
        rows = name in by_class
        if name not in old or old[name].shape[rows:] != tensor.shape[rows:]:
            continue
        yield name, _mixed(tensor, old[name], pairs) if rows else old[name]


def _shared(old: LabelSpace, new: LabelSpace) -> tuple[list[int], list[int]]:
    """Return the places of the classes that both spaces know."""
    both = [name for name in new.classes if name in old.classes]
    return [old.classes.index(name) for name in both], [new.classes.index(name) for name in both]


def _mixed(tensor: Tensor, old: Tensor, pairs: tuple[list[int], list[int]]) -> Tensor:
    mixed, (rows, places) = tensor.clone(), pairs
    mixed[places] = old[rows]
    return mixed


def _by_class(state: dict[str, Tensor], spec: ModelSpec) -> frozenset[str]:
    """Name the tensors with a row a class: those that have one more where there is one class more."""
    more = build(replace(spec, labels=LabelSpace((*spec.labels.classes, ANOTHER)))).state_dict()
    return frozenset(name for name, tensor in state.items() if tensor.shape != more[name].shape)


def _unpretrained(spec: ModelSpec) -> ModelSpec:
    return replace(spec, net=replace(spec.net, pretrained=Pretrained.OFF))
