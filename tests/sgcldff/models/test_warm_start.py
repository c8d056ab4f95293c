"""What a network takes over from another, and what begins anew."""

from dataclasses import replace

import pytest
import torch

from sgcldff.core.errors import InputError
from sgcldff.core.labels import WBC5, WBC6, LabelSpace
from sgcldff.core.records import Split
from sgcldff.core.settings import ModelSpec, NetSpec, Pretrained, PriorSpec
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets import build
from sgcldff.models.training.trainer import TrainSpec, train
from sgcldff.models.training.warm_start import Successor, begin

pytestmark = pytest.mark.slow

SPEC = ModelSpec(net=NetSpec(pretrained=Pretrained.OFF, fusion_width=32), labels=WBC5, crop_px=64)
HEAD = "type_head.tell.1"


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    torch.manual_seed(3)
    return save_model(tmp_path_factory.mktemp("parent") / "model", SPEC, build(SPEC))


def test_the_same_spec_takes_everything_over(parent):
    torch.manual_seed(4)
    net, inherited = begin(Successor(SPEC, parent))
    old = load_model(parent, "cpu")
    state = old.net.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert (inherited.parent, inherited.taken, inherited.anew, inherited.classes) == (old.digest, len(state), (), ())


@pytest.mark.parametrize(
    "labels", [WBC6, LabelSpace(("blast", *reversed(WBC5.classes[:3]))), LabelSpace(tuple(reversed(WBC5.classes)))]
)
def test_classes_are_taken_over_by_name(parent, labels):
    """Of more, fewer and as many classes in another order."""
    torch.manual_seed(4)
    net, inherited = begin(Successor(replace(SPEC, labels=labels), parent))
    old, new = load_model(parent, "cpu").net.state_dict(), net.state_dict()
    for name in labels.classes:
        row = new[f"{HEAD}.weight"][labels.classes.index(name)]
        known = [torch.equal(row, other) for other in old[f"{HEAD}.weight"]]
        assert known == [other == name for other in WBC5.classes]
    assert inherited.anew == ()
    assert inherited.classes == tuple(name for name in labels.classes if name == "blast")
    assert ("blast" in str(inherited)) == ("blast" in labels.classes)
    assert all(torch.equal(new[name], old[name]) for name in new if not name.startswith(HEAD))


def test_what_does_not_fit_begins_anew_and_is_named(parent):
    more = replace(SPEC, prior=PriorSpec(names=("ramf", "mbplus")))
    net, inherited = begin(Successor(more, parent))
    assert inherited.anew
    assert all(name in str(inherited) for name in inherited.anew)
    assert inherited.taken + len(inherited.anew) == len(net.state_dict())
    assert f"{HEAD}.weight" not in inherited.anew


def test_a_stranger_is_refused(parent):
    with pytest.raises(InputError, match="nothing of this 'sgcldff' fits 'unet': start from scratch"):
        begin(Successor(replace(SPEC, net=replace(SPEC.net, name="unet")), parent))


def test_training_begins_where_the_parent_ended(parent, smears, tmp_path):
    """With a learning rate of almost nothing, and no averages of other images, the weights stay the parent's."""
    still = TrainSpec(epochs=1, batch_size=8, learning_rate=1e-9, weight_decay=0, ema_decay=0, seed=9)
    trained = train(
        (smears[0].select(Split.TRAIN)[:8], smears[1]), Successor(SPEC, parent), still, tmp_path, None, "cpu"
    )
    old, new = (load_model(folder, "cpu").net for folder in (parent, trained.folder))
    assert trained.inherited.parent == load_model(parent, "cpu").digest
    for (name, before), after in zip(old.named_parameters(), new.parameters(), strict=True):
        torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-5, msg=name)
