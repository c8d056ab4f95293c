"""Addresses of databases lead to the right file, whatever its folders are called."""

import os
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import assume, given
from hypothesis import strategies as st
from mlflow.utils.uri import extract_db_type_from_uri

from sgcldff.core.errors import InputError
from sgcldff.core.locations import Address, shown, sqlite_uri
from tasks.workspace import Workspace

NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=40)
ODD = (
    "a?b",
    "p%20q",
    "100%",
    "%3F",
    "a#b",
    "a b",
    "o'neill",
    'a"b',
    "a:b@c",
    "a;b&c=d",
    "ü€",
    "a\nb",
    "~",
    "x?uri=true",
)


@given(st.one_of(NAMES, st.sampled_from(ODD)))
def test_sqlalchemy_parses_the_intended_path(name):
    path = Path("/lab") / name / "x.db"
    for driver in ("pysqlite", "aiosqlite"):
        url = sqlalchemy.make_url(sqlite_uri(path, driver))
        assert (url.database, dict(url.query), url.get_driver_name()) == (str(path), {}, driver)


@given(st.one_of(NAMES, st.sampled_from(ODD)))
def test_a_workspace_a_folder_and_an_address_name_the_same_registry(name):
    assume(name not in (".", "..") and "://" not in name)
    folder = Path("/lab") / name
    parsed = Address.parse(folder)
    assert (parsed.folder, parsed.database) == (folder, folder / "mlflow.db")
    assert Address.parse(parsed.uri) == parsed
    assert shown(parsed.uri) == parsed.uri
    assert extract_db_type_from_uri(parsed.uri) == "sqlite"
    assert Address.parse(Workspace(str(folder)).tracking_uri).database == folder / "mlflow" / "mlflow.db"


@pytest.mark.parametrize("name", ODD)
def test_a_database_is_created_in_its_folder_and_nothing_beside_it(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    engine = sqlalchemy.create_engine(sqlite_uri(folder / "x.db"))
    with closing(engine.raw_connection()) as connection:
        connection.execute("CREATE TABLE t (x)")
    engine.dispose()
    assert (folder / "x.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


@given(st.text("abcdeü -_.+@", min_size=1).filter(lambda name: name not in (".", "..")))
def test_an_address_without_escapes_is_the_plain_path(name):
    assert sqlite_uri(Path("/lab") / name / "x.db") == f"sqlite:////lab/{name}/x.db"


def test_an_address_with_escapes_or_options_is_understood():
    assert Address.parse("sqlite:////lab/a%3Fb/x.db").database == Path("/lab/a?b/x.db")
    options = Address.parse("sqlite:////lab/x.db?timeout=30")
    assert (options.database, options.uri) == (Path("/lab/x.db"), "sqlite:////lab/x.db?timeout=30")


def test_a_name_that_is_not_utf8_is_refused():
    with pytest.raises(InputError, match="not UTF-8; name another folder"):
        sqlite_uri(Path(os.fsdecode(b"/lab/\xff")) / "x.db")
