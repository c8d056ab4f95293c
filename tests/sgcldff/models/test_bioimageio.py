"""A model as a BioImage.IO package: its files belong together, and bioimageio.core runs it where there is one."""

import hashlib
import json
import os
import subprocess

import numpy as np
import pytest
import torch

from sgcldff.core.errors import InputError
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import ModelSpec
from sgcldff.models.bioimageio import export_bioimageio
from sgcldff.models.checkpoint import read_spec
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets import build
from sgcldff.saliency.priors import build as build_priors
from tests.small import SMALL

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("SGCLDFF_BIOIMAGEIO_PYTHON")
"""Interpreter with bioimageio.core and torch; the former does not work with pydantic 2.14."""
SPEC = ModelSpec(net=SMALL)
RUN = """
import sys
from pathlib import Path
from bioimageio.core import test_model
summary = test_model(Path(sys.argv[1]))
print([(detail.name, detail.errors) for detail in summary.details if detail.status == "failed"])
assert summary.status == "passed", summary.status
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(2)
    return save_model(tmp_path_factory.mktemp("model") / "model", SPEC, build(SPEC).eval())


@pytest.fixture(scope="module")
def package(model, tmp_path_factory):
    target = tmp_path_factory.mktemp("package") / "zoo"
    return export_bioimageio(model, ModelRef("sgcldff", "7", "ab" * 8), target)


def test_all_files_are_described_with_their_digests(package):
    described = json.loads((package / "rdf.yaml").read_text())
    weights = described["weights"]["torchscript"]
    tensors = [*described["inputs"], *described["outputs"]]
    files = [weights, *described["attachments"], *(tensor["test_tensor"] for tensor in tensors)]
    for file in files:
        assert hashlib.sha256((package / file["source"]).read_bytes()).hexdigest() == file["sha256"]
    listed = {file["source"] for file in files} | {"rdf.yaml", described["documentation"]}
    assert {path.name for path in package.iterdir()} == listed
    assert described["name"] == "sgcldff 7"
    for tensor in tensors:
        shape = np.load(package / tensor["test_tensor"]["source"]).shape
        assert len(shape) == len(tensor["axes"])
        assert shape[1] == len(tensor["axes"][1]["channel_names"])


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
@pytest.mark.parametrize(("count", "height", "width"), [(1, 192, 192), (2, 96, 160)])
def test_the_script_computes_what_the_model_does(package, model, count, height, width):
    image = np.load(package / "image.npy")[..., :height, :width].repeat(count, axis=0)
    rgb = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    prior = np.stack([build_priors(read_spec(package / "spec.json").prior)(one) for one in rgb])
    expected = load_model(model, "cpu").predict(rgb, prior)
    script = torch.jit.load(package / "weights.pt")
    parts, types = script(torch.from_numpy(image / np.float32(255)), torch.from_numpy(prior))
    np.testing.assert_allclose(parts.detach(), expected.segmentation, atol=1e-5)
    np.testing.assert_allclose(types.detach(), expected.cell_type, atol=1e-5)
    if (height, width) == image.shape[2:] == (192, 192):
        np.testing.assert_allclose(parts.detach(), np.load(package / "segmentation.npy"), atol=1e-5)
        np.testing.assert_allclose(types.detach(), np.load(package / "cell_type.npy"), atol=1e-5)


def test_no_folder_is_written_over(package, model):
    with pytest.raises(InputError, match="exists; name a folder that does not"):
        export_bioimageio(model, ModelRef("sgcldff", "7", "ab" * 8), package)


@pytest.mark.skipif(PYTHON is None, reason="SGCLDFF_BIOIMAGEIO_PYTHON names no interpreter with bioimageio.core")
def test_bioimageio_validates_and_runs_it(package):
    done = subprocess.run([PYTHON, "-c", RUN, str(package)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
