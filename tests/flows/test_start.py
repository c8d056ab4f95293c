"""What a command starts, and what it does without."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from prefect import flow

from flows.environment import launch
from sgcldff.core.settings import InferSpec, ModelSpec
from sgcldff.slides import find_slides
from sgcldff.slides.scale_group import scale_groups
from tasks.batch import tiles_at_most
from tasks.compute import Compute, workers
from tasks.stages import in_flow_run
from tests.terminal import outside

SCRIPT = """
import json, sys
from flows.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
HEAVY = {"distributed", "lightning", "mlflow", "prefect", "sklearn", "torch"}


def modules_of(*arguments: object) -> set[str]:
    """Run a command in a process of its own, and name the packages that it has imported."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, env=outside(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_small_slide_is_read_without_servers_workers_and_torch(halved, slide, tmp_path):
    asked = ("infer", slide.slide, "--model", halved, "--out", tmp_path / "out", "--workspace", tmp_path / "workspace")
    assert not modules_of(*asked) & HEAVY
    assert not (tmp_path / "workspace" / "mlflow").exists()
    cells = pq.read_table(tmp_path / "out" / "small" / "cells.parquet")
    assert not modules_of(*asked) & (HEAVY | {"openvino"}), "a finished slide needs no network either"
    by_workers = (*asked[:4], "--out", tmp_path / "by-workers", *asked[6:], "--workers", 1)
    assert "distributed" in modules_of(*by_workers)
    assert pq.read_table(tmp_path / "by-workers" / "small" / "cells.parquet").equals(cells)


@flow
def probe() -> bool:
    """Whether this is a run."""
    return in_flow_run()


def test_a_flow_is_a_run_where_a_server_is_configured(server, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert launch(probe) is False
    monkeypatch.setenv("PREFECT_API_URL", "the harness knows")
    assert launch(probe) is True


def test_the_work_decides_whether_workers_are_worth_their_start(slide, tmp_path):
    model, spec = ModelSpec(mpp=0.25), InferSpec(tile_px=256)
    found = find_slides([str(slide.slide)])
    groups = scale_groups(found)
    (height, width), mpp = (1500, 1500), 0.1
    tiles = height * width * (mpp / model.mpp / spec.tile_px) ** 2
    assert tiles_at_most(found, groups, model, spec, int(tiles) + 1)
    assert not tiles_at_most(found, groups, model, spec, int(tiles))
    assert not tiles_at_most(found * 9, groups, model, spec, 8)
    assert tiles_at_most([], {}, model, spec, 0)


@pytest.mark.parametrize(
    ("asked", "few", "here"),
    [
        (Compute(), True, True),
        (Compute(), False, False),
        (Compute(workers=0), False, True),
        (Compute(workers=1), True, False),
        (Compute(cluster="tcp://127.0.0.1:9"), True, False),
    ],
)
def test_what_is_asked_for_goes_before(asked, few, here, monkeypatch):
    monkeypatch.setattr("sgcldff.cluster.connect", lambda *_: pytest.fail("started before there is work"))
    if asked.cluster:
        with pytest.raises(pytest.fail.Exception), workers(asked, here=few):
            pass
        return
    with workers(asked, here=few) as found:
        assert found.here is here
