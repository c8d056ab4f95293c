"""Contract of every network: shapes, any tile size, switches that switch, no pretrained weights needed."""

from dataclasses import replace

import pytest
import torch

from sgcldff.errors import InputError
from sgcldff.labels import BLAST_OR_NOT, WBC5, WBC6
from sgcldff.nets import build
from sgcldff.nets.prediction import REGISTRY
from sgcldff.specs import Mixing, ModelSpec, NetSpec, Pretrained, PriorSpec

OFF = NetSpec(pretrained=Pretrained.OFF)


def answer(spec, height=64, width=64, batch=2, prior=None):
    torch.manual_seed(0)
    net = build(spec).eval()
    image = torch.rand(batch, 3, height, width)
    prior = torch.rand(batch, len(spec.prior.names), height, width) if prior is None else prior
    with torch.inference_mode():
        return net(image, prior)


@pytest.mark.parametrize("name", sorted(REGISTRY))
@pytest.mark.parametrize("labels", [WBC5, WBC6, BLAST_OR_NOT], ids=lambda space: str(len(space.classes)))
def test_every_network_answers_for_any_label_space(name, labels):
    spec = ModelSpec(net=replace(OFF, name=name), labels=labels)
    got = answer(spec)
    assert got.segmentation.shape == (2, 3, 64, 64)
    assert got.cell_type.shape == (2, len(labels.classes))
    assert got.evidence.shape == (2, 1, 16, 16)
    assert got.evidence.min() >= 0
    assert got.evidence.max() <= 1
    assert got.embedding.shape == (2, build(spec).embedding_width)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 160), (224, 224), (256, 64)])
@pytest.mark.parametrize("mixing", list(Mixing))
def test_any_tile_size_and_mixture(height, width, mixing):
    got = answer(ModelSpec(net=replace(OFF, mixing=mixing)), height, width, batch=1)
    assert got.segmentation.shape == (1, 3, height, width)
    assert torch.isfinite(got.segmentation).all()


def test_prior_reaches_the_output_only_where_it_is_switched_on():
    def moves(**switches):
        spec = ModelSpec(net=replace(OFF, **switches))
        torch.manual_seed(0)
        net = build(spec).eval()
        for name, parameter in net.named_parameters():
            if "gate" in name:
                torch.nn.init.normal_(parameter)
        image = torch.rand(1, 3, 64, 64)
        with torch.inference_mode():
            empty, full = (net(image, torch.full((1, 1, 64, 64), value)).segmentation for value in (0.0, 1.0))
        return not torch.equal(empty, full)

    assert moves(prior_input=True, prior_gate=False)
    assert moves(prior_input=False, prior_gate=True)
    assert not moves(prior_input=False, prior_gate=False)


def test_gate_is_neutral_at_first():
    spec = ModelSpec(net=replace(OFF, prior_input=False, prior_gate=True))
    dark, bright = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)
    torch.testing.assert_close(
        answer(spec, batch=1, prior=dark).segmentation, answer(spec, batch=1, prior=bright).segmentation
    )


def test_fusion_off_has_fewer_parameters():
    def size(net):
        return sum(p.numel() for p in build(ModelSpec(net=net)).parameters())

    assert size(replace(OFF, cross_layer_fusion=False)) < size(OFF)


def test_several_priors_are_taken():
    assert answer(ModelSpec(net=OFF, prior=PriorSpec(names=("ramf", "spectral_residual")))).segmentation.shape[1] == 3


def test_unknown_names_are_told():
    with pytest.raises(InputError, match=r"'alexnet'.*sgcldff"):
        build(ModelSpec(net=replace(OFF, name="alexnet")))
    with pytest.raises(InputError, match="'effnet'"):
        build(ModelSpec(net=replace(OFF, backbone="effnet")))


def test_required_weights_that_cannot_be_had_are_an_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="pretrained to auto or off"):
        build(ModelSpec(net=replace(OFF, pretrained=Pretrained.REQUIRED)))
    assert build(ModelSpec(net=replace(OFF, pretrained=Pretrained.AUTO)))
