"""What the project says of itself is true: lock file, CONTRIBUTING, deployments, batch scripts."""

import importlib
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def code_blocks(path: Path, info: str) -> list[str]:
    """Give the fenced blocks of a document that are marked with `info`."""
    return re.findall(rf"^```{info}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def test_the_lock_file_holds_names_versions_markers_and_hashes_only():
    lines = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
    pins = [line.split("--hash=") for line in lines if line.strip()]
    assert len(pins) > 100
    for name, *hashes in pins:
        pinned = Requirement(name)
        assert len(pinned.specifier) == 1, name
        assert str(pinned.specifier).startswith("=="), name
        assert pinned.url is None
        assert hashes, f"{name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", item.strip()) for item in hashes)


def test_the_lock_file_fits_the_ranges_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "requirements.lock").read_text()
    pinned: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE):
        pinned.setdefault(name.lower().replace("_", "-"), set()).add(version)
    extras = ("training", "tracking", "openvino", "s3", "dev")
    optional = [text for extra in extras for text in project["optional-dependencies"][extra]]
    for wanted in map(Requirement, [*project["dependencies"], *optional]):
        if wanted.name == "sgcldff":
            continue  # stands for its own extras
        versions = pinned.get(wanted.name.lower().replace("_", "-"), set())
        assert versions, f"{wanted.name} is not locked"
        assert all(wanted.specifier.contains(version) for version in versions), f"{wanted}: {versions}"


@pytest.fixture
def module(monkeypatch):
    """Give the function that runs an example of CONTRIBUTING.md as a module, and forget it afterwards."""
    from sgcldff.models import nets
    from sgcldff.saliency import priors

    kept = [(registry, dict(registry)) for registry in (nets.NETWORKS, priors.PRIORS)]

    def run(info: str) -> types.ModuleType:
        (block,) = code_blocks(CONTRIBUTING, f"python {info}")
        made = types.ModuleType("example")
        monkeypatch.setitem(sys.modules, "example", made)
        exec(compile(block, f"CONTRIBUTING.md ({info})", "exec"), made.__dict__)
        return made

    yield run
    for registry, before in kept:
        registry.clear()
        registry.update(before)


def test_the_example_of_a_data_set_is_read(module, tmp_path):
    adapter = module("data set").ADAPTER
    for name in ("example-lab.txt", "NEUT_7_1.png", "mono_7_2.png", "odd.png"):
        (tmp_path / name).touch()
    assert adapter.recognises(tmp_path)
    mono, neutrophil, odd = sorted(adapter.scan(tmp_path), key=lambda item: getattr(item, "label", "z"))
    assert (mono.label, neutrophil.label) == ("monocyte", "neutrophil")
    assert mono.group == neutrophil.group
    assert "TYPE_PATIENT_NUMBER" in odd.reason


def test_the_example_of_a_prior_is_built_by_its_name(module):
    from sgcldff.core.settings import PriorSpec
    from sgcldff.saliency.priors import build

    module("prior")
    image = np.full((40, 50, 3), 230, np.uint8)
    image[10:20, 10:20] = (90, 40, 130)
    (prior,) = build(PriorSpec(names=("darkness",)))(image)
    assert prior.dtype == np.float32
    assert prior[15, 15] > 0.8 > 0.2 > prior[30, 40]


def test_the_example_of_a_network_keeps_the_contract(module):
    from sgcldff.core.settings import ModelSpec, NetSpec
    from sgcldff.models.nets import build

    module("network")
    spec = ModelSpec(net=NetSpec(name="tiny"))
    answer = build(spec)(torch.rand(2, 3, 64, 96), torch.rand(2, 1, 64, 96))
    assert answer.segmentation.shape == (2, 3, 64, 96)
    assert answer.cell_type.shape == (2, 5)
    assert answer.evidence.shape == (2, 1, 16, 24)
    assert answer.embedding.shape == (2, build(spec).embedding_width)
    answer.segmentation.sum().backward()


def test_deployments_name_flows_and_parameters_that_exist():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert len({item["name"] for item in deployments}) == len(deployments)
    for item in deployments:
        path, name = item["entrypoint"].split(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert set(item["parameters"]) <= set(flow.parameters.properties), item["name"]
        assert item["work_pool"]["name"] == "sgcldff"


def test_nothing_names_the_machine_it_was_written_on():
    suspects = [ROOT / "prefect.yaml", ROOT / "Makefile", ROOT / "mkdocs.yml", *ROOT.glob("*.md")]
    suspects += [
        *(ROOT / "docs").rglob("*.md"),
        *(path for path in (ROOT / "infra").rglob("*.*") if path.is_file() and path.suffix != ".pyc"),
    ]
    for path in suspects:
        assert not re.search(r"/work/|/tmp/|/root/|pypi\.org/simple", path.read_text()), path


def test_batch_scripts_are_shell(tmp_path):
    scripts = sorted((ROOT / "infra").rglob("*.sbatch"))
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)


def test_the_slurm_script_reads_the_slide_of_its_task(tmp_path):
    """Stand in for Slurm and for sgcldff: the third task reads the third slide."""
    slides, fake = tmp_path / "slides.txt", tmp_path / "sgcldff"
    slides.write_text("a.svs\nb.svs\nwith space.svs\n")
    fake.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    fake.chmod(0o755)
    script = [ROOT / "infra" / "slurm" / "infer.sbatch", slides, "out"]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "4"}
    done = subprocess.run(["bash", *script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "infer|with space.svs|--out|out|--workers|4|"
    beyond = subprocess.run(["bash", *script], env=env | {"SLURM_ARRAY_TASK_ID": "9"}, capture_output=True, text=True)
    assert beyond.returncode == 2
    assert "no line 9" in beyond.stderr
