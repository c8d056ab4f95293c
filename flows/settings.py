"""All settings of a run, with defaults; a TOML file overrides any of them."""

import tomllib
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.settings import (
    EvalSpec,
    InferSpec,
    IngestSpec,
    NetSpec,
    PriorSpec,
    PromotionSpec,
    RetrainPolicy,
    TrainSpec,
)


@dataclass(frozen=True)
class Settings:
    """Settings by stage; each field is a table of the TOML file."""

    ingest: IngestSpec = field(default_factory=IngestSpec)
    prior: PriorSpec = field(default_factory=PriorSpec)
    net: NetSpec = field(default_factory=NetSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    evaluate: EvalSpec = field(default_factory=EvalSpec)
    promote: PromotionSpec = field(default_factory=PromotionSpec)
    infer: InferSpec = field(default_factory=InferSpec)
    retrain: RetrainPolicy = field(default_factory=RetrainPolicy)


def read_settings(path: Path | None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read settings from a TOML file, if one is given; `overrides` (nested, None is skipped) take precedence.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is not TOML, or a key or value is invalid; the message names its path.
    """
    values = merge(_toml(path) if path else {}, overrides or {})
    unknown = list(unknown_keys(values, Settings()))
    if unknown:
        raise InputError(f"{path or 'settings'}: unknown {', '.join(unknown)}; see `sgcldff settings` for all keys")
    try:
        return _adapter().validate_python(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise InputError(f"{path or 'settings'}: {'; '.join(lines)}") from error


@cache
def _adapter() -> TypeAdapter[Settings]:
    return TypeAdapter(Settings)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingInputError(
            f"{path}: no such settings file; `sgcldff settings > {path}` writes one with the defaults"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a TOML file with --settings") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error}); `sgcldff settings` prints an example") from error


def merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Merge nested `top` into `base`; None keeps the value of `base`."""
    values = {key: value for key, value in top.items() if value is not None}
    nested = {key: merge(base.get(key, {}), value) for key, value in values.items() if isinstance(value, dict)}
    return base | values | nested


def unknown_keys(values: dict[str, Any], defaults: Any, path: str = "") -> Any:
    """Yield the paths of keys that are not fields of the dataclass `defaults`."""
    names = {item.name for item in fields(defaults)}
    for key, value in values.items():
        if key not in names:
            yield f"{path}{key}"
        elif isinstance(value, dict) and is_dataclass(getattr(defaults, key)):
            yield from unknown_keys(value, getattr(defaults, key), f"{path}{key}.")
