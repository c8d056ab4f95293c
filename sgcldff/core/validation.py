"""Values of settings, checked against the types of their fields and the bounds stated there."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from textwrap import shorten
from typing import Any, TypeVar, get_args

from sgcldff.core.errors import InputError

T = TypeVar("T")

BOUNDS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("at least", operator.ge),
    "gt": ("more than", operator.gt),
    "le": ("at most", operator.le),
    "lt": ("less than", operator.lt),
    "multiple_of": ("a multiple of", lambda value, unit: value % unit == 0),
}
"""Constraint of a field -> its name in messages, and whether a value and a limit satisfy it; NaN satisfies none."""


@dataclass(frozen=True)
class Spec:
    """Settings whose values lie within the bounds that the types of the fields state.

    Raises
    ------
    InputError
        If a value does not.
    """

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            for bound in _bounds(item.type) if value is not None else ():
                for name, (wording, holds) in BOUNDS.items():
                    limit = getattr(bound, name, None)
                    if limit is not None and not holds(value, limit):
                        raise InputError(f"{type(self).__name__}.{item.name} is {value}: must be {wording} {limit}")


def _bounds(hint: Any) -> tuple[Any, ...]:
    """Return the constraints in the type of a field, which may be optional."""
    own = getattr(hint, "__metadata__", ())
    return own or tuple(bound for part in get_args(hint) for bound in _bounds(part))


def validated(kind: type[T], values: Any, name: str) -> T:
    """Make a dataclass of plain values, such as those of a file.

    Parameters
    ----------
    name
        Of the file, for messages.

    Raises
    ------
    InputError
        If a key is unknown or missing, or a value is invalid; the message names all of them.
    """
    from pydantic import TypeAdapter, ValidationError  # slow to import, and only files need it

    strict = TypeAdapter(list[kind], config={"extra": "forbid"})  # type: ignore[valid-type]  # dataclasses inherit it
    try:
        return strict.validate_python([values])[0]
    except ValidationError as error:
        raise InputError(f"{name}: {'; '.join(map(_problem, error.errors()))}") from error


def _problem(item: Any) -> str:
    """Word a problem that pydantic found."""
    key, value = ".".join(map(str, item["loc"][1:])), item["input"]
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if isinstance(value, str | int | float):
        return f"{key} is {shorten(repr(value), 60, placeholder=' ...')}: {message}"
    return f"{key}: {message}" if key else message
