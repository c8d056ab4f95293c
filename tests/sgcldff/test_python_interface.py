"""Slides read from Python, without Prefect, as in a notebook."""

import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import zarr
from packaging.requirements import Requirement

import sgcldff
from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.data.synthetic import random_smear, render_field

pytestmark = pytest.mark.slow

MPP = 0.2


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Draw a field of view with known cells, as a photograph that does not say its scale."""
    spec = replace(random_smear(3, MPP), wbc_per_mm2=1500)
    field = render_field(spec, (400, 500), np.random.default_rng(3))
    path = tmp_path_factory.mktemp("field") / "field.png"
    cv2.imwrite(str(path), field.rgb[..., ::-1])
    return path, field


@pytest.fixture(scope="module")
def result(field, tmp_path_factory):
    return sgcldff.read_slide(field[0], mpp=MPP, out=tmp_path_factory.mktemp("results"))


def test_every_public_name_is_listed_and_there():
    assert dir(sgcldff) == sgcldff.__all__
    assert all(getattr(sgcldff, name) is not None for name in sgcldff.__all__)


def test_importing_the_package_loads_no_large_library():
    script = "import sys, sgcldff; print({'torch', 'mlflow', 'prefect', 'pyarrow', 'cv2'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


@pytest.mark.usefixtures("result")  # exports the graphs, which a process without torch would start two others for
def test_a_slide_is_read_without_prefect(field, tmp_path):
    read = "import sys, sgcldff; sgcldff.read_slide(sys.argv[1], mpp=0.2, out=sys.argv[2])"
    command = [sys.executable, "-c", f"{read}; print('prefect' in sys.modules)", str(field[0]), str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_a_white_count_and_reference_intervals_add_to_the_same_cells(field, result, tmp_path):
    (tmp_path / "lab.toml").write_text(
        '[[interval]]\ntype = "wbc"\nunit = "10^9/L"\nlow = 4\nhigh = 11\nsex = "male"\n'
    )
    patient = sgcldff.Patient(wbc=20.0, sex="male")
    told = sgcldff.read_slide(
        field[0], mpp=MPP, out=tmp_path / "out", patient=patient, reference=tmp_path / "lab.toml"
    ).differential
    assert told.counts == result.differential.counts
    assert [mark.reads for mark in told.laboratory.marks] == ["above"]
    white = {share.label for share in told.shares}
    assert sum(one.value for one in told.laboratory.absolute if one.label in white) == pytest.approx(20)
    assert result.differential.laboratory.absolute == ()


EXTRAS = ("training", "tracking", "openvino", "s3")


def modules_of_extras():
    """Name the modules that only the optional packages provide."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    optional = {Requirement(text).name for extra in EXTRAS for text in project["optional-dependencies"][extra]}
    normal = {name.lower().replace("_", "-") for name in optional}
    owners = packages_distributions().items()
    return [
        module for module, names in owners if not normal.isdisjoint(name.lower().replace("_", "-") for name in names)
    ]


def test_slides_are_read_with_the_required_packages_alone(field, tmp_path):
    missing = modules_of_extras()
    assert {"mlflow", "lightning", "openvino", "xarray", "sklearn"} <= set(missing)
    script = f"""
import sys
sys.modules.update(dict.fromkeys({missing}))
from flows.cli import main
sys.argv[1:] = ["infer", {str(field[0])!r}, "--mpp", "0.2", "-o", {str(tmp_path / "out")!r}, "-w", {str(tmp_path)!r}]
main()
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert sgcldff.read_results(tmp_path / "out" / "field").cells.num_rows > 0


def test_cells_outlines_and_differential_describe_the_same_cells(field, result):
    assert result.cells.num_rows == len(result.outlines) > 0
    assert result.differential.counted + result.differential.rejected == sum(result.cells["counted"].to_pylist())
    truth = np.array([cell.centroid for cell in field[1].cells])
    for outline, x, y in zip(result.outlines, *(result.cells[name].to_pylist() for name in "xy"), strict=True):
        assert shapely.Polygon(outline).is_valid
        assert np.linalg.norm(truth - (y, x), axis=1).min() * MPP < 3


def test_the_label_image_of_cells_joins_the_table(result):
    image = zarr.open_array(result.folder / "labels.ome.zarr" / "labels" / "cells" / "0", mode="r")[:]
    areas = np.bincount(image.ravel())[1:] * sgcldff.load_model(device="cpu").spec.mpp ** 2
    assert areas == pytest.approx(result.cells["area_um2"].to_numpy(), rel=0.1)
    assert result.cells["instance"].to_pylist() == list(range(1, len(areas) + 1))


def test_cells_become_a_geodataframe_in_pixels_of_the_slide(result):
    frame = result.to_geopandas()
    assert frame.geometry.name == "outline"
    assert frame.geometry.area.to_numpy() * MPP**2 == pytest.approx(frame["area_um2"].to_numpy(), rel=0.25)
    assert frame["nucleus"].dropna().within(frame.geometry.loc[frame["nucleus"].notna().to_numpy()].buffer(1)).all()


def test_kept_results_are_read_back(result):
    again = sgcldff.read_results(result.folder)
    assert again.differential == result.differential
    assert again.cells.equals(result.cells)


def test_a_slide_that_was_read_is_not_read_again(field, result):
    written = (result.folder / "cells.parquet").stat().st_mtime_ns
    again = sgcldff.read_slide(field[0], mpp=MPP, out=result.folder.parent)
    assert again.cells.equals(result.cells)
    assert (result.folder / "cells.parquet").stat().st_mtime_ns == written


def test_results_without_a_folder_last_as_long_as_they_are_used(field, result):
    temporary = sgcldff.read_slide(field[0], mpp=MPP)
    folder = temporary.folder
    assert temporary.cells["label"].equals(result.cells["label"])
    assert pq.read_table(folder / "cells.parquet").num_rows == result.cells.num_rows
    del temporary
    assert not folder.exists()


def test_a_damaged_summary_or_differential_is_written_again(field, tmp_path):
    first = sgcldff.read_slide(field[0], mpp=MPP, out=tmp_path)
    (first.folder / "differential.json").write_text("{")
    with pytest.raises(InputError, match=r"differential\.json"):
        sgcldff.read_results(first.folder)
    assert sgcldff.read_slide(field[0], mpp=MPP, out=tmp_path).differential == first.differential


def test_progress_is_reported_until_everything_is_done(field, tmp_path):
    shards, passes = [], []

    class Progress:
        def __init__(self, total, done):
            shards.append(total)

        def __enter__(self):
            return lambda tally: passes.append(tally.passes)

        def __exit__(self, *error):
            return None

    sgcldff.read_slide(field[0], mpp=MPP, out=tmp_path, progress=Progress)
    assert sum(passes) == 2 * shards[0]


def test_wrong_input_is_named_with_its_remedy(field, tmp_path):
    with pytest.raises(MissingInputError, match=r"nothing\.png"):
        sgcldff.read_slide(tmp_path / "nothing.png", mpp=MPP)
    with pytest.raises(InputError, match="mpp"):
        sgcldff.read_slide(field[0])
    with pytest.raises(InputError, match="no such folder"):
        sgcldff.read_slide(field[0], model=tmp_path / "nowhere", mpp=MPP)
    with pytest.raises(MissingInputError, match=r"summary\.json is missing"):
        sgcldff.read_results(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(field[0].read_bytes())
    with pytest.raises(InputError, match="2 slides"):
        sgcldff.read_slide(tmp_path, mpp=MPP)


def test_the_released_model_is_loaded_by_default():
    model = sgcldff.load_model(device="cpu")
    assert model.spec.labels.classes[0] == "segmented neutrophil"
    assert isinstance(model, sgcldff.Model)


def test_a_command_that_needs_an_extra_names_it(field, tmp_path):
    (tmp_path / "neutrophil").mkdir()
    (tmp_path / "neutrophil" / "cell.png").write_bytes(field[0].read_bytes())
    script = f"""
import sys
sys.modules["imagehash"] = None
from flows.cli import main
where = ["-d", {str(tmp_path)!r}, "--adapter", "folder", "--mpp", "0.2", "-w", {str(tmp_path / "workspace")!r}]
sys.argv[1:] = ["prepare", *where]
main()
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.strip() == "sgcldff: this command needs imagehash: pip install 'sgcldff[training]'"
