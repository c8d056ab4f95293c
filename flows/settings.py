"""All settings of a run in one place, with defaults; a TOML file overrides any of them."""

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
    """Read settings from a TOML file, if one is named, and put `overrides` (nested, None is skipped) on top.

    Raises
    ------
    MissingInputError
        If the file is not there.
    InputError
        If it is no TOML, or a key or value is not understood; the message gives its path.
    """
    stated = merge(_toml(path) if path else {}, overrides or {})
    unknown = list(unknown_keys(stated, Settings()))
    if unknown:
        raise InputError(f"{path or 'settings'}: unknown {', '.join(unknown)}; see `sgcldff settings` for all keys")
    try:
        return _adapter().validate_python(stated)
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
    """Lay nested `top` over `base`; None leaves what is below."""
    stated = {key: value for key, value in top.items() if value is not None}
    nested = {key: merge(base.get(key, {}), value) for key, value in stated.items() if isinstance(value, dict)}
    return base | stated | nested


def unknown_keys(stated: dict[str, Any], known: Any, path: str = "") -> Any:
    """Yield the paths of keys that no field of the dataclass `known` has."""
    names = {item.name for item in fields(known)}
    for key, value in stated.items():
        if key not in names:
            yield f"{path}{key}"
        elif isinstance(value, dict) and is_dataclass(getattr(known, key)):
            yield from unknown_keys(value, getattr(known, key), f"{path}{key}.")
