"""The released model: where it is found, when it is used, and that it is complete."""

import os
import shutil
import subprocess
import sys
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from sgcldff.core.errors import MissingInputError, ServiceError
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import ModelSpec
from sgcldff.doctor import State
from sgcldff.doctor.packages import released_model
from sgcldff.evaluation.drift.observe import describe
from sgcldff.models import released as shipping
from sgcldff.models.checkpoint import CONFUSION_FILE, SPEC_FILE, TRAINED_ON, WEIGHTS_FILE, saved_digest
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets import build
from sgcldff.models.reference import REFERENCE_FILE, Reference
from sgcldff.models.released import RELEASED, RELEASED_NAME, RELEASED_VERSION, released, released_folder
from sgcldff.registry import Registry, choose_model
from tests import servers
from tests.small import SMALL

pytestmark = pytest.mark.slow

FOLDER = f"{RELEASED_NAME}_{RELEASED_VERSION}"
SHIPPED = servers.ROOT / "models" / FOLDER
CARD = "README.md"
LARGEST = 25_000_000
"""Largest allowed size of the weights, bytes."""
SPEC = ModelSpec(net=SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory, smears):
    """Save a complete model: spec, weights, record and reference."""
    torch.manual_seed(4)
    folder = save_model(tmp_path_factory.mktemp("made") / FOLDER, SPEC, build(SPEC), half=True)
    describe(load_model(folder, "cpu"), smears[0].samples).save(folder)
    (folder / TRAINED_ON).write_text('{"sha256": [], "data": "d", "complete": true}')
    (folder / CARD).write_text("# A card\n")
    return folder


@pytest.fixture
def checkout(made, tmp_path, monkeypatch):
    """Return a root folder with a released model, like a checkout."""
    shutil.copytree(made, tmp_path / "models" / FOLDER)
    monkeypatch.setattr(shipping, "ROOT", tmp_path)
    return tmp_path


def test_in_a_checkout_it_is_below_models(checkout):
    model, folder = released()
    assert folder == checkout / "models" / FOLDER == released_folder()
    assert model == ModelRef(RELEASED_NAME, RELEASED_VERSION, load_model(folder, "cpu").digest)


def test_if_it_is_missing_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "ROOT", tmp_path)
    with pytest.raises(MissingInputError, match=rf"models/{FOLDER}: the released model is missing.*--model"):
        released()


def test_a_wheel_contains_it(made, tmp_path):
    """Built from a copy of the checkout, and found by the code of the wheel."""
    copy, root = tmp_path / "checkout", servers.ROOT
    for package in ("sgcldff", "tasks", "flows"):
        shutil.copytree(root / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    shutil.copytree(made, copy / "models" / FOLDER)
    shutil.copytree(made, copy / "sgcldff-workspace" / "training" / "model")
    build_wheel = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([*build_wheel, "-w", tmp_path / "wheels", "."], cwd=copy, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    with ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith("sgcldff-workspace")]
        archive.extractall(tmp_path / "site")
    script = "from sgcldff.models.released import released; model, folder = released(); print(model.digest, folder)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert output.split() == [saved_digest(made), str(tmp_path / "site" / FOLDER)]
    files = {path.name: path.read_bytes() for path in (tmp_path / "site" / FOLDER).iterdir()}
    assert files == {path.name: path.read_bytes() for path in made.iterdir()}


def test_without_a_champion_it_is_used_and_no_database_is_created(checkout):
    registry = Registry(checkout / "workspace" / "mlflow")
    choice = choose_model(checkout / "workspace" / "mlflow")
    assert (choice.model, choice.folder) == released()
    assert registry.resolve(choice.reference) == released()
    assert f"{RELEASED_NAME} {RELEASED_VERSION} ({choice.model.digest})" in str(choice)
    assert "no champion" in choice.why
    assert not (checkout / "workspace").exists()


def test_a_champion_takes_precedence_unless_it_is_requested(checkout, made, tmp_path):
    registry = Registry(tmp_path / "mlflow")
    challenger = registry.register(made)
    assert choose_model(tmp_path / "mlflow").model == released()[0], "a challenger is no champion"
    registry.promote(challenger)
    choice = choose_model(tmp_path / "mlflow")
    assert choice.model == challenger
    assert "champion" in choice.why
    assert choose_model(tmp_path / "mlflow", RELEASED).model == released()[0]
    assert choose_model(tmp_path / "mlflow", str(made)).model.version == "folder"
    later = registry.register(made)
    registry.promote(later)
    assert registry.resolve(choice.reference)[0] == challenger, "what was chosen stays what it was"
    assert choose_model(tmp_path / "mlflow").model == later


def test_a_server_that_does_not_answer_is_no_reason_to_use_it(checkout):
    with pytest.raises(ServiceError, match="does not answer"):
        choose_model(f"http://127.0.0.1:{servers.unused_port()}")


def test_the_doctor_checks_that_it_is_complete(checkout):
    folder = checkout / "models" / FOLDER
    assert released_model().state is State.OK
    other = save_model(checkout / "other", SPEC, build(SPEC), half=True)
    kept = {name: (folder / name).read_bytes() for name in (WEIGHTS_FILE, TRAINED_ON, REFERENCE_FILE)}
    broken = {
        WEIGHTS_FILE: [(other / WEIGHTS_FILE).read_bytes(), kept[WEIGHTS_FILE][:1000], None],
        REFERENCE_FILE: [kept[REFERENCE_FILE][:1000], None],
        TRAINED_ON: [None],
    }
    for name, contents in broken.items():
        for content in contents:
            (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
            check = released_model()
            assert check.state is State.FAILED, name
            assert "restore" in check.remedy
            (folder / name).write_bytes(kept[name])
    (folder / SPEC_FILE).unlink()
    assert released_model().state is State.WARNING


class TestShipped:
    """The released model of this checkout."""

    def test_weights_are_small_and_in_half_precision(self):
        weights = load_file(SHIPPED / WEIGHTS_FILE)
        assert (SHIPPED / WEIGHTS_FILE).stat().st_size <= LARGEST
        kinds = {array.dtype for array in weights.values() if np.issubdtype(array.dtype, np.floating)}
        assert kinds == {np.dtype(np.float16)}
        assert all(np.isfinite(array).all() for array in weights.values())

    def test_digests_agree(self):
        model = load_model(SHIPPED, "cpu")
        assert saved_digest(SHIPPED) == model.digest == Reference.open(SHIPPED).model == released()[0].digest
        assert released_model().state is State.OK

    def test_the_card_says_what_it_is_for_and_what_it_learned_from(self):
        card = (SHIPPED / CARD).read_text()
        for said in (
            f"{RELEASED_NAME} {RELEASED_VERSION}",
            "Intended use",
            "research",
            "Data",
            "Licence",
            "Limits",
            released()[0].digest,
        ):
            assert said.casefold() in card.casefold(), f"the card does not say {said!r}"

    def test_nothing_else_is_in_its_folder(self):
        files = {SPEC_FILE, WEIGHTS_FILE, TRAINED_ON, CONFUSION_FILE, REFERENCE_FILE, CARD}
        assert {path.name for path in SHIPPED.iterdir()} == files


def test_the_folder_of_models_contains_only_the_released_one():
    folders = [path.name for path in (servers.ROOT / "models").iterdir() if path.is_dir()]
    assert folders == [FOLDER]
