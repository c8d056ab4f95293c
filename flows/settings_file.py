"""Settings as a TOML file that explains itself."""

import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

import tomlkit
from pydantic import ConfigDict, TypeAdapter
from tomlkit.items import Table

from flows.settings import Settings

WIDTH = 100
"""Characters of a line of comment."""
UNSTATED = ("version",)
"""Keys that no file states: they belong to the code that reads it."""

Schema = Mapping[str, Any]
"""JSON schema of a settings class, with the descriptions of its keys."""


class _Described(Settings):
    """Settings whose JSON schema takes the descriptions of the keys from their docstrings."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)


def to_toml(settings: Settings) -> str:
    """Write settings as TOML that `read_settings` reads; above each key stand its meaning and what it may be.

    Keys without a value are written as comments.
    """
    schema = _schema()
    document = tomlkit.document()
    document.add(tomlkit.comment("Settings of sgcldff: leave out what shall keep its default."))
    for stage, values in asdict(settings).items():
        document.add(tomlkit.nl())
        document.add(stage, _table(values, _definition(schema["properties"][stage], schema), schema))
    return tomlkit.dumps(document)


@cache
def _schema() -> Schema:
    return TypeAdapter(_Described).json_schema()


def _table(values: Mapping[str, Any], described: Schema, schema: Schema) -> Table:
    """Write a table: its keys first, then the tables in it."""
    table = tomlkit.table()
    _comment(table, described.get("description", ""))
    for name, value in sorted(values.items(), key=lambda item: isinstance(item[1], dict)):
        own = described.get("properties", {}).get(name, {})
        if name in UNSTATED:
            continue
        table.add(tomlkit.nl())
        if isinstance(value, dict):
            table.add(name, _table(value, _definition(own, schema), schema))
            continue
        _comment(table, " ".join(filter(None, (own.get("description"), _choices(own, schema)))))
        if value is None:
            table.add(tomlkit.comment(f"{name} ="))
        else:
            table.add(name, _plain(value))
    return table


def _plain(value: Any) -> Any:
    """Give a value as TOML has it: enumerations by their text, tuples as arrays."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else getattr(value, "value", value)


def _definition(described: Schema, schema: Schema) -> Schema:
    """Follow a reference, also one that stands beside null."""
    for one in (described, *described.get("anyOf", ())):
        if "$ref" in one:
            definition: Schema = schema["$defs"][one["$ref"].rpartition("/")[2]]
            return definition
    return described


def _choices(described: Schema, schema: Schema) -> str:
    """Name the values of an enumeration."""
    values = _definition(described.get("items", described), schema).get("enum", ())
    return f"{'Some' if 'items' in described else 'One'} of: {', '.join(values)}." if values else ""


def _comment(table: Table, text: str) -> None:
    for line in textwrap.wrap(" ".join(text.split()), WIDTH):
        table.add(tomlkit.comment(line))
