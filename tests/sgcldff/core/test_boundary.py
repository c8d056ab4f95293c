"""Whatever is raised about a file of others becomes one error that names it, and numbers keep to their bounds."""

import ast
import math
import os
import struct
import zlib
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.settings import Settings
from sgcldff.cluster.config import KubernetesSpec, LocalSpec, SlurmSpec
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, LabelError, MissingInputError, SlideError
from sgcldff.core.settings import ModelSpec
from sgcldff.core.tables import number, whole_number

ROOT = Path(__file__).parents[3]
RAISED = (ValueError, KeyError, AssertionError, RecursionError, struct.error, zlib.error, OSError, UnicodeError)


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_whatever_a_reader_raises_names_file_reason_and_remedy(kind):
    with (
        pytest.raises(SlideError, match=r"^a\.tif: torn \('?deep inside"),
        reading("a.tif", "torn", "mend it", SlideError),
    ):
        raise kind("deep inside") if kind is not UnicodeError else UnicodeError("deep inside")


@pytest.mark.parametrize("error", [InputError("ours"), MemoryError(), KeyboardInterrupt(), ModuleNotFoundError("x")])
def test_our_own_errors_and_those_of_the_machine_pass_unchanged(error):
    with pytest.raises(type(error)) as caught, reading("a.tif", "torn", "mend it", SlideError):
        raise error
    assert caught.value is error


def test_a_missing_file_stays_missing_and_a_pipe_is_not_read(tmp_path):
    with pytest.raises(MissingInputError, match=r"a\.tif: no such file"), reading("a.tif", "torn", "mend it"):
        (tmp_path / "a.tif").read_bytes()
    os.mkfifo(tmp_path / "x.png")
    for path in (tmp_path / "x.png", Path("/dev/zero")):
        with pytest.raises(InputError, match="a pipe or a device is no file"), reading(path, "torn", "mend it"):
            path.read_bytes()


@pytest.mark.parametrize("kind", [InputError, MissingInputError, SlideError, LabelError])
def test_every_error_can_be_written_as_utf_8(kind):
    assert str(kind("m\udcfcller.png: torn")).encode() == b"m?ller.png: torn"


def test_broad_handlers_stand_at_the_boundaries_only():
    found = set()
    for path in (path for part in ("sgcldff", "tasks", "flows") for path in (ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            caught = node.type if isinstance(node, ast.ExceptHandler) else None
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "suppress":
                caught = ast.Tuple(node.args)
            names = {"BaseException"} if isinstance(node, ast.ExceptHandler) and not node.type else set()
            if caught is not None:
                names = {part.id for part in ast.walk(caught) if isinstance(part, ast.Name)}
            cleans_up = isinstance(node, ast.ExceptHandler) and ast.unparse(node.body[-1]) == "raise"
            if names & {"Exception", "BaseException"} and not cleans_up:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {"flows/cli.py", "sgcldff/core/boundary.py", "sgcldff/core/disks.py", "tasks/stages.py"}


def specs(spec: object):
    """Yield a settings object and those in it."""
    yield spec
    for item in fields(spec):
        if is_dataclass(part := getattr(spec, item.name)) and item.name != "labels":
            yield from specs(part)


ALL = [*specs(Settings()), *specs(ModelSpec()), LocalSpec(), SlurmSpec(1, "1 GB", "lo"), KubernetesSpec("i")]
NUMBERS = sorted(
    {
        (type(spec), item.name)
        for spec in ALL
        for item in fields(spec)
        if ("int" in str(item.type) or "float" in str(item.type)) and item.name != "version"
    },
    key=str,
)


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda part: getattr(part, "__name__", part))
def test_no_setting_takes_a_number_without_sense(kind, name):
    needed = {"SlurmSpec": (1, "1 GB", "lo"), "KubernetesSpec": ("i",)}.get(kind.__name__, ())
    for value in (math.nan, math.inf, -math.inf, -64, 1e300):
        with pytest.raises(InputError, match=rf"{name} is .*: must be"):
            kind(**dict(zip([item.name for item in fields(kind)], needed, strict=False)) | {name: value})


@given(st.one_of(st.floats(0.02, 8), st.integers(1, 8)))
def test_numbers_within_their_bounds_are_read(value):
    assert number("t.csv, row 1", "mpp", str(value), (0.02, 8)) == value


@pytest.mark.parametrize("text", ["", "²", "nan", "inf", "1e300", "0.00025", "99999", "9" * 5000, "1,5", "0x1"])
def test_other_numbers_are_refused_with_their_place(text):
    with pytest.raises(InputError, match=r"^t\.csv, row 1: mpp is '.{0,40}'; give a number from 0\.02 to 8$"):
        number("t.csv, row 1", "mpp", text, (0.02, 8))
    with pytest.raises(InputError, match="give a whole number from 1 to 9"):
        whole_number("t.csv, row 1", "page", text or "2.5", (1, 9))
