"""The environment of all tests: homes of their own, no servers, no telemetry, no network; and the order of files."""

import os
import tempfile

import hypothesis
import numpy as np
import pytest

from flows.environment import ALWAYS, QUIET, set_defaults
from tests import servers, shared
from tests.browser import chromium

SERVERS = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "SGCLDFF_WORKSPACE")
LONGEST = (
    "flows/test_operations.py",
    "flows/test_benchmark.py",
    "flows/test_chain.py",
    "sgcldff/models/test_runtimes.py",
    "sgcldff/models/test_training.py",
    "flows/test_cli.py",
    "infra/test_services.py",
    "flows/test_crashes.py",
    "sgcldff/cluster/test_cluster_faults.py",
    "flows/test_calibrate.py",
    "sgcldff/models/test_nets.py",
    "flows/test_promotion.py",
)
"""Files that take longest, in the order in which they start: no process is left alone with one of them at the end."""


def pytest_configure(config):
    """Set the environment before any test module imports Prefect or MLflow."""
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker is None:
        os.environ[shared.FOLDER] = tempfile.mkdtemp(prefix="sgcldff-tests-")
        # processes that share the cores: threads of one would spin while they wait for those of another
        cores = len(os.sched_getaffinity(0)) // (config.getoption("numprocesses", None) or 1)
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))
        config.add_cleanup(shared.end)
    folder = os.environ[shared.FOLDER]
    for name in SERVERS:
        os.environ.pop(name, None)
    os.environ["PREFECT_HOME"] = f"{folder}/{worker or 'only'}"
    os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
    os.environ["COLUMNS"] = "200"
    os.environ["SOURCE_DATE_EPOCH"] = "1767225600"  # of results that are compared byte for byte
    set_defaults(ALWAYS | QUIET)
    hypothesis.settings.register_profile("quick", deadline=None, max_examples=25, derandomize=True)
    hypothesis.settings.register_profile("thorough", deadline=None, max_examples=500)
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_ignore_collect(collection_path, config):
    """Where slow tests are left out, do not even import the files that hold nothing else."""
    left_out = config.option.markexpr == "not slow" and collection_path.suffix == ".py"
    return True if left_out and "\npytestmark = pytest.mark.slow\n" in collection_path.read_text() else None


def pytest_collection_modifyitems(config, items):
    """Let the longest files come first; all others stay in their order."""
    rank = {config.rootpath / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def postgres():
    """Run one PostgreSQL server for the session; every test creates databases of its own."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_tables():
    """Make new registries fast."""
    with shared.mlflow_tables():
        yield


@pytest.fixture
def browser(tmp_path):
    """Start headless Chromium for one test, since what a page stores outlives it."""
    yield from chromium(tmp_path / "browser")


@pytest.fixture(scope="session")
def smear():
    """Make a slide of 40 white cells."""
    from sgcldff.data.synthetic.slides import write_slide

    return shared.once("smear", lambda folder: write_slide(folder / "smear.tiff", (3000, 3000), cells=40, seed=5))


@pytest.fixture(scope="session")
def read_as():
    """Give the function that writes a slide's results as if a model had told certain types: no network is trained."""
    return write_read


def write_read(folder, slide, told, version="3"):
    """Write the results of a slide whose cells a model told to be `told`; every fifth lies in a thick area."""
    from sgcldff.core.labels import FIVE_TYPES
    from sgcldff.core.records import Lineage
    from sgcldff.counting.differential import differential, write_differential
    from sgcldff.results.batch import SlideSummary, write_summary
    from sgcldff.slides.images import sha256_of
    from tests.written import write_cells

    lineage = Lineage(sha256_of(slide.slide), "sgcldff", version, "cd" * 8, "ef" * 8, "0.1.0")
    rows = [row_of(folder.name, number, *pair) for number, pair in enumerate(zip(slide.cells, told, strict=True))]
    write_cells(folder / "cells.parquet", rows, FIVE_TYPES, 0.1, lineage)
    counted = [row.label for row in rows if row.counted]
    found = differential(counted, FIVE_TYPES, excluded=len(rows) - len(counted))
    write_differential(folder / "differential.json", found, folder.name, lineage)
    write_summary(folder, SlideSummary(folder.name, slide.slide.name))
    return folder


def row_of(slide, number, cell, label):
    """Give the row of a cell that was told to be `label`: with 0.9, or 0.4 where it is unidentified."""
    from sgcldff.core.labels import FIVE_TYPES
    from sgcldff.inference.outputs import CellRow

    (y, x), thick, likeliest = cell.centroid, number % 5 == 4, label if label in FIVE_TYPES else cell.label
    top = 0.9 if label in FIVE_TYPES else 0.4
    chances = np.full(5, (1 - top) / 4, np.float32)
    chances[FIVE_TYPES.index(likeliest)] = top
    return CellRow(
        cell_id=f"{slide}-x{x:.0f}-y{y:.0f}",
        slide_id=slide,
        centroid=(y, x),
        box=tuple(map(float, cell.box)),
        outline=np.zeros((0, 2)),
        area_um2=cell.area_um2,
        nucleus_area_um2=cell.nucleus_area_um2,
        label=label,
        confidence=top,
        probabilities=chances,
        abstained=label not in FIVE_TYPES,
        area="thick" if thick else "monolayer",
        counted=not thick,
    )
