"""Training learns, and a run that is stopped by SIGTERM or SIGKILL ends exactly like an uninterrupted one."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from sgcldff.core.errors import InputError
from sgcldff.core.labels import WBC5
from sgcldff.core.records import Split
from sgcldff.core.settings import LossSpec, ModelSpec, TrainSpec
from sgcldff.models.model import load_model
from sgcldff.models.training.batches import EpochSampler
from sgcldff.models.training.trainer import Cosine, MovingAverage, train
from tests.small import SMALL

pytestmark = pytest.mark.slow

MODEL = ModelSpec(net=SMALL, labels=WBC5, crop_px=64)
SPEC = TrainSpec(epochs=2, batch_size=4, seed=5)

SCRIPT = """
import sys
from sgcldff.data.catalog import Catalog
from sgcldff.saliency.store import PriorStore
from sgcldff.models.training import trainer
from tests_training import MODEL, SPEC
trainer.CHECKPOINT_STEPS = int(sys.argv[4])
trainer.train(Catalog.open(sys.argv[1]).samples, PriorStore.open(sys.argv[2]), MODEL, SPEC, sys.argv[3], None, "cpu")
"""


def start(smears, folder: Path, steps: int = 3):
    catalog, priors = smears
    (folder / "tests_training.py").write_text(Path(__file__).read_text().split("SCRIPT = ")[0])
    (folder / "run.py").write_text(SCRIPT)
    arguments = [str(catalog.folder), priors.ref.uri, str(folder / "run"), str(steps)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(torch.get_num_threads()))
    environment = os.environ | threads | {"PYTHONPATH": os.pathsep.join((str(folder), *sys.path))}
    return subprocess.Popen(
        [sys.executable, str(folder / "run.py"), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(path: Path, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(smears, tmp_path_factory):
    """Return the digest of the same training, uninterrupted."""
    catalog, priors = smears
    done = train(catalog.samples, priors, MODEL, SPEC, tmp_path_factory.mktemp("whole"), None, "cpu")
    return load_model(done.folder, "cpu").digest


@pytest.mark.parametrize(
    ("how", "steps"), [(signal.SIGTERM, 3), (signal.SIGKILL, 1000)], ids=["SIGTERM-in-an-epoch", "SIGKILL-after-one"]
)
def test_a_stopped_run_ends_like_an_undisturbed_one(smears, undisturbed, tmp_path, how, steps):
    process = start(smears, tmp_path, steps)
    wait_for(tmp_path / "run" / "last.ckpt", process)
    process.send_signal(how)
    process.wait(60)
    assert process.returncode != 0
    assert not (tmp_path / "run" / "model").exists()
    catalog, priors = smears
    train(catalog.samples, priors, MODEL, SPEC, tmp_path / "run", None, "cpu")
    assert load_model(tmp_path / "run" / "model", "cpu").digest == undisturbed


def test_training_learns_to_outline(smears, tmp_path):
    catalog, priors = smears
    spec = TrainSpec(epochs=12, batch_size=8, augment=0.3, loss=LossSpec())
    trained = train(catalog.samples, priors, MODEL, spec, tmp_path, None, "cpu")
    assert trained.score > 0.45


def test_every_epoch_is_sampled_differently(smears, tmp_path, monkeypatch):
    catalog, priors = smears
    drawn = {}
    indices = EpochSampler.indices

    def recorded(sampler):
        drawn[sampler.epoch] = indices(sampler).tolist()
        return indices(sampler)

    monkeypatch.setattr(EpochSampler, "indices", recorded)
    train(catalog.samples, priors, MODEL, replace(SPEC, epochs=2), tmp_path, None, "cpu")
    assert sorted(drawn) == [0, 1]
    assert drawn[0] != drawn[1]


def test_an_empty_training_split_is_an_error(smears, tmp_path):
    _, priors = smears
    with pytest.raises(InputError, match="training split"):
        train((), priors, MODEL, SPEC, tmp_path, None, "cpu")


class TypeLosses(Callback):
    """Records the loss of the types at every step."""

    def __init__(self) -> None:
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.values.append(float(trainer.callback_metrics["train/cell_type"]))


@pytest.mark.parametrize("doubts", ["every label", "another data set"])
def test_doubted_labels_teach_no_types(smears, tmp_path, caplog, doubts):
    catalog, priors = smears
    names = {f"{sample.source}/{sample.label}" for sample in catalog.samples if sample.label}
    doubted = tuple(sorted(names)) if doubts == "every label" else tuple(f"elsewhere-{name}" for name in names)
    losses = TypeLosses()
    spec = replace(SPEC, epochs=1, doubted_labels=doubted)
    train(catalog.samples, priors, MODEL, spec, tmp_path, [losses], "cpu")
    assert losses.values
    assert (max(losses.values) == 0) is (doubts == "every label")
    assert ("that of no image" in caplog.text) is (doubts == "another data set")


class Validations(Callback):
    """Records which epochs are validated, and can fail in the first."""

    def __init__(self, *, dies: bool = False) -> None:
        self.dies, self.epochs = dies, []

    def on_validation_epoch_start(self, trainer, pl_module):
        if self.dies:
            raise RuntimeError("killed")

    def on_validation_epoch_end(self, trainer, pl_module):
        self.epochs.append(trainer.current_epoch)


def test_an_epoch_that_ends_where_a_checkpoint_is_due_is_validated_even_if_killed_before(smears, tmp_path, monkeypatch):
    catalog, priors = smears
    learned = sum(sample.split is Split.TRAIN for sample in catalog.samples)
    monkeypatch.setattr("sgcldff.models.training.trainer.CHECKPOINT_STEPS", -(-learned // SPEC.batch_size))
    data, watching = (catalog.samples, priors), Validations()
    with pytest.raises(RuntimeError, match="killed"):
        train(*data, MODEL, SPEC, tmp_path, [Validations(dies=True)], "cpu")
    train(*data, MODEL, SPEC, tmp_path, [watching], "cpu")
    assert watching.epochs == list(range(SPEC.epochs))


def test_learning_rate_rises_then_falls():
    factor = Cosine(100, 0.1)
    values = [factor(step) for step in range(100)]
    assert values.index(max(values)) in (9, 10)
    assert values[:9] == sorted(values[:9])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert 0 < values[-1] < 0.05


def test_moving_average_follows_early_and_smooths_late():
    import torch

    average = MovingAverage(0.99)
    zero, one = torch.zeros(1), torch.ones(1)
    assert average(zero, one, torch.tensor(1)).item() > 0.8
    assert average(zero, one, torch.tensor(10_000)).item() == pytest.approx(0.01)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_a_checkpoint_that_holds_code_does_not_run_it(smears, tmp_path, kind):
    catalog, priors = smears
    mark, last = tmp_path / "ran", tmp_path / "run" / "last.ckpt"
    last.parent.mkdir()
    if kind == "torch":
        torch.save({"state_dict": {}, "callbacks": Evil(mark)}, last)
    else:
        last.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(InputError, match=r"last\.ckpt.*remove it to train from the start"):
        train(catalog.samples, priors, MODEL, SPEC, last.parent, None, "cpu")
    assert not mark.exists()


def test_a_checkpoint_that_is_cut_short_is_named_and_none_is_ever_written(smears, tmp_path, monkeypatch):
    """A full disk ends `torch.save` in the middle."""
    catalog, priors = smears
    folder, once = tmp_path / "run", replace(SPEC, epochs=1)
    train(catalog.samples, priors, MODEL, once, folder, None, "cpu")
    whole = (folder / "last.ckpt").read_bytes()

    def cut(checkpoint, path):
        Path(path).write_bytes(whole[: len(whole) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", cut)
        with pytest.raises(OSError, match="No space left"):
            train(catalog.samples, priors, MODEL, replace(SPEC, epochs=2), folder, None, "cpu")
    assert (folder / "last.ckpt").read_bytes() == whole
    assert {path.suffix for path in folder.iterdir() if path.is_file()} <= {".ckpt", ".txt"}
    (folder / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"last\.ckpt: is damaged.*remove it to train from the start"):
        train(catalog.samples, priors, MODEL, replace(SPEC, epochs=2), folder, None, "cpu")
