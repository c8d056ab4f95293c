"""A network starts from the weights of its parent as far as they fit."""

from dataclasses import replace

import pytest
import torch

from sgcldff.core.errors import InputError
from sgcldff.core.labels import WBC5, WBC6, LabelSpace
from sgcldff.core.records import Split
from sgcldff.core.settings import ModelSpec, PriorSpec
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets import build
from sgcldff.models.training.trainer import TrainSpec, train
from sgcldff.models.training.warm_start import WarmStart, start_from_parent
from tests.small import SMALL

pytestmark = pytest.mark.slow

SPEC = ModelSpec(net=SMALL, labels=WBC5, crop_px=64)
HEAD = "type_head.tell.1"


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    torch.manual_seed(3)
    return save_model(tmp_path_factory.mktemp("parent") / "model", SPEC, build(SPEC))


def test_the_same_spec_takes_over_everything(parent):
    torch.manual_seed(4)
    net, inherited = start_from_parent(WarmStart(SPEC, parent))
    old = load_model(parent, "cpu")
    state = old.net.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert (inherited.parent, inherited.transferred) == (old.digest, len(state))
    assert inherited.reinitialised == inherited.new_classes == ()


@pytest.mark.parametrize(
    "labels", [WBC6, LabelSpace(("blast", *reversed(WBC5.classes[:3]))), LabelSpace(tuple(reversed(WBC5.classes)))]
)
def test_classes_are_taken_over_by_name(parent, labels):
    """With more, fewer and reordered classes."""
    torch.manual_seed(4)
    net, inherited = start_from_parent(WarmStart(replace(SPEC, labels=labels), parent))
    old, new = load_model(parent, "cpu").net.state_dict(), net.state_dict()
    for name in labels.classes:
        row = new[f"{HEAD}.weight"][labels.classes.index(name)]
        known = [torch.equal(row, other) for other in old[f"{HEAD}.weight"]]
        assert known == [other == name for other in WBC5.classes]
    assert inherited.reinitialised == ()
    assert inherited.new_classes == tuple(name for name in labels.classes if name == "blast")
    assert ("blast" in str(inherited)) == ("blast" in labels.classes)
    assert all(torch.equal(new[name], old[name]) for name in new if not name.startswith(HEAD))


def test_tensors_that_do_not_fit_are_reinitialised_and_named(parent):
    more = replace(SPEC, prior=PriorSpec(names=("ramf", "mbplus")))
    net, inherited = start_from_parent(WarmStart(more, parent))
    assert inherited.reinitialised
    assert all(name in str(inherited) for name in inherited.reinitialised)
    assert inherited.transferred + len(inherited.reinitialised) == len(net.state_dict())
    assert f"{HEAD}.weight" not in inherited.reinitialised


def test_a_parent_of_another_architecture_is_refused(parent):
    with pytest.raises(InputError, match="no weights of this 'sgcldff' fit 'unet': start from scratch"):
        start_from_parent(WarmStart(replace(SPEC, net=replace(SPEC.net, name="unet")), parent))


def test_training_starts_where_the_parent_ended(parent, smears, tmp_path):
    """With a negligible learning rate and no averaging, the weights stay the parent's."""
    still = TrainSpec(epochs=1, batch_size=8, learning_rate=1e-9, weight_decay=0, ema_decay=0, seed=9)
    trained = train(smears[0].select(Split.TRAIN)[:8], smears[1], WarmStart(SPEC, parent), still, tmp_path, None, "cpu")
    old, new = (load_model(folder, "cpu").net for folder in (parent, trained.folder))
    assert trained.inherited.parent == load_model(parent, "cpu").digest
    for (name, before), after in zip(old.named_parameters(), new.parameters(), strict=True):
        torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-5, msg=name)
