"""Settings as a commented TOML file."""

import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import tomlkit
from pydantic import ConfigDict, TypeAdapter
from tomlkit.items import Table

from flows.settings import Settings

WIDTH = 100
"""Longest line of a comment, characters."""
OMITTED = ("version",)
"""Keys that are not written to files: they belong to the code that reads them."""

Schema = Mapping[str, Any]
"""JSON schema of a settings class, with the descriptions of its keys."""


class _Described(Settings):
    """Settings whose JSON schema includes the docstrings of the keys."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)


def to_toml(settings: Settings) -> str:
    """Write settings as TOML that `read_settings` reads, with a comment on the meaning and choices of each key.

    Keys without a value are commented out.
    """
    schema = TypeAdapter(_Described).json_schema()
    document = tomlkit.document()
    document.add(tomlkit.comment("Settings of sgcldff: leave out a key to keep its default."))
    for stage, values in asdict(settings).items():
        document.add(tomlkit.nl())
        document.add(stage, _table(values, _definition(schema["properties"][stage], schema), schema))
    return tomlkit.dumps(document)


def _table(values: Mapping[str, Any], described: Schema, schema: Schema) -> Table:
    """Write a table: its keys first, then its subtables."""
    table = tomlkit.table()
    _comment(table, described.get("description", ""))
    for name, value in sorted(values.items(), key=lambda item: isinstance(item[1], dict)):
        own = described.get("properties", {}).get(name, {})
        if name in OMITTED:
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
    """Convert a value to a TOML type: enumerations to text, tuples to arrays."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else getattr(value, "value", value)


def _definition(described: Schema, schema: Schema) -> Schema:
    """Resolve a reference, also of an optional value."""
    for one in (described, *described.get("anyOf", ())):
        if "$ref" in one:
            definition: Schema = schema["$defs"][one["$ref"].rpartition("/")[2]]
            return definition
    return described


def _choices(described: Schema, schema: Schema) -> str:
    """Return a sentence that lists the values of an enumeration."""
    values = _definition(described.get("items", described), schema).get("enum", ())
    return f"{'Some' if 'items' in described else 'One'} of: {', '.join(values)}." if values else ""


def _comment(table: Table, text: str) -> None:
    for line in textwrap.wrap(" ".join(text.split()), WIDTH):
        table.add(tomlkit.comment(line))
