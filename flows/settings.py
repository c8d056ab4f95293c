"""All settings of a run, with defaults; a TOML file overrides any of them."""

import tomllib
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from sgcldff.core import settings as specs
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.validation import validated


@dataclass(frozen=True)
class Settings:
    """Settings by stage; each field is a table of the TOML file."""

    ingest: specs.IngestSpec = field(default_factory=specs.IngestSpec)
    prior: specs.PriorSpec = field(default_factory=specs.PriorSpec)
    net: specs.NetSpec = field(default_factory=specs.NetSpec)
    train: specs.TrainSpec = field(default_factory=specs.TrainSpec)
    evaluate: specs.EvalSpec = field(default_factory=specs.EvalSpec)
    promote: specs.PromotionSpec = field(default_factory=specs.PromotionSpec)
    infer: specs.InferSpec = field(default_factory=specs.InferSpec)
    report: specs.ReportSpec = field(default_factory=specs.ReportSpec)
    retrain: specs.RetrainPolicy = field(default_factory=specs.RetrainPolicy)


def read_settings(path: Path | None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read settings from a TOML file, if one is given; `overrides` (nested, None is skipped) take precedence.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is not TOML, or a key or value is invalid; the message names its path.
    """
    name = path or "settings"
    if path is not None and not path.exists():
        raise MissingInputError(
            f"{path}: no such settings file; `sgcldff settings > {path}` writes one with the defaults"
        )
    with reading(name, "not TOML", "`sgcldff settings` prints an example"):
        stated = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
    with reading(name, "a table is needed where there is a value", "see `sgcldff settings` for all tables"):
        values = merge(stated, overrides or {})
        unknown = list(unknown_keys(values, Settings()))
    if unknown:
        raise InputError(f"{name}: unknown {', '.join(unknown)}; see `sgcldff settings` for all keys")
    return validated(Settings, values, str(name))


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
