"""The benchmark trains its contenders alike, writes one table and does not repeat what is done."""

import json

import pytest

from flows.benchmark import benchmark, contenders
from sgcldff.datasets import Source
from sgcldff.errors import InputError


def test_contenders_differ_in_one_thing_each():
    chosen = contenders()
    ours = chosen.pop("sgcldff")
    for name, other in chosen.items():
        assert (other.net != ours.net) != (other.train != ours.train), name
        assert other.train.epochs == ours.train.epochs
        assert other.prior == ours.prior


@pytest.mark.usefixtures("server")
def test_contenders_share_one_table(smears, quick, tmp_path):
    out, names = tmp_path / "bench", ["no-fusion", "unet"]
    benchmark([Source("table", str(smears))], str(out), names, quick(), "cpu")
    rows = json.loads((out / "table.json").read_text())["rows"]
    assert [row["model"] for row in rows] == names
    assert len({row["scores"]["images"] for row in rows}) == 1
    assert (out / "table.md").read_text().count("\n") == 2 + len(names)
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("weights.safetensors")}
    assert len(weights) == len(names)
    benchmark([Source("table", str(smears))], str(out), names, quick(), "cpu")
    assert weights == {path: path.stat().st_mtime_ns for path in out.rglob("weights.safetensors")}


@pytest.mark.usefixtures("server")
def test_an_unknown_contender_is_told(smears, tmp_path):
    with pytest.raises(InputError, match=r"contender alexnet is unknown.*sgcldff"):
        benchmark([Source("table", str(smears))], str(tmp_path), ["alexnet"])
