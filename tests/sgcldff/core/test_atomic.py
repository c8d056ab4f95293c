"""Files appear whole, whoever else writes them; those with a checksum show every damage."""

import json
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import MissingInputError, StoreError
from sgcldff.core.json_file import CHECKSUM, read_json, write_json
from sgcldff.core.parquet_file import open_intact, read_table, write_table

TABLE = pa.table({"name": ["a", None], "value": [1.5, 2.5]}).replace_schema_metadata({"layout": "test/1"})
CONTENT = {"count": 12, "shares": [0.25, 1e-9], "name": "µ", "none": None}


def test_writers_at_once_do_not_mix_and_leave_nothing_behind(tmp_path):
    target, contents = tmp_path / "deep" / "file.txt", [str(number) * 50_000 for number in range(8)]

    def write(content):
        for _ in range(20):
            with atomic_write(target) as draft, draft.open("w") as file:
                for at in range(0, len(content), 10_000):
                    file.write(content[at : at + 10_000])
        return target.read_text() in contents

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write, contents))
    assert list(target.parent.iterdir()) == [target]


def test_a_table_that_is_replaced_while_it_is_read_is_the_former_one_or_the_next(tmp_path):
    target = tmp_path / "table.parquet"
    versions = [pa.table({"name": [f"{number}"] * number, "value": range(number)}) for number in (1, 40, 3000)]
    write_table(target, versions[0])
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [write_table(target, table) for _ in range(200) for table in versions])
        while not writing.done():
            assert read_table(target, "") in versions
            with open_intact(target, "") as file:
                schema, rows = file.schema_arrow, file.metadata.num_rows
                assert file.read(["value"]) in [table.select(["value"]) for table in versions]
            assert schema.names == ["name", "value"]
            assert rows in (1, 40, 3000)


def test_an_error_leaves_the_old_file_or_folder_and_no_draft(tmp_path):
    (tmp_path / "file").write_text("old")

    def fail(path, inside):
        with atomic_write(path) as draft:
            (draft / inside).parent.mkdir(exist_ok=True)
            (draft / inside).write_text("new")
            raise ZeroDivisionError

    for name, inside in (("file", ""), ("folder", "inside")):
        with pytest.raises(ZeroDivisionError):
            fail(tmp_path / name, inside)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def damaged(path, content, bit):
    position = bit % (8 * len(content))
    flipped = bytearray(content)
    flipped[position // 8] ^= 1 << position % 8
    path.write_bytes(flipped)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(bit=st.integers(0, 2**32))
def test_one_flipped_bit_never_reads_as_something_else(tmp_path, bit):
    document, table = write_json(tmp_path / "a.json", CONTENT), write_table(tmp_path / "a.parquet", TABLE)
    for path, read, expected in ((document, read_json, CONTENT), (table, read_table, TABLE)):
        damaged(path, path.read_bytes(), bit)
        try:
            found = read(path, "make it again")
        except StoreError:
            continue
        assert found == expected
        if path is table:
            assert found.schema.equals(expected.schema, check_metadata=True)


def test_what_is_cut_empty_or_gone_is_said_so_and_what_has_no_checksum_is_read(tmp_path):
    document, table = write_json(tmp_path / "a.json", CONTENT), write_table(tmp_path / "a.parquet", TABLE)
    assert read_json(document, "") == CONTENT
    assert read_table(table, "").equals(TABLE, check_metadata=True)
    for path, read in ((document, read_json), (table, read_table)):
        for length in (path.stat().st_size // 2, 0):
            path.write_bytes(path.read_bytes()[:length])
            with pytest.raises(StoreError, match=r"damaged \(.*\); make it again"):
                read(path, "make it again")
        path.unlink()
        with pytest.raises(MissingInputError, match="no such file; make it again"):
            read(path, "make it again")
    document.write_text(json.dumps(CONTENT))
    assert read_json(document, "") == CONTENT
    assert CHECKSUM not in CONTENT
