"""Contract of every network: shapes, any tile size, working switches, no need for pretrained weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sgcldff.core.errors import InputError
from sgcldff.core.label_codes import MAY_BE_BACKGROUND
from sgcldff.core.labels import BLAST_OR_NOT, WBC5, WBC6
from sgcldff.core.settings import LossSpec, Mixing, ModelSpec, NetSpec, Pretrained, PriorSpec
from sgcldff.evaluation.predict import predict_images
from sgcldff.models.model import Model
from sgcldff.models.nets import build
from sgcldff.models.nets.base import NETWORKS
from sgcldff.models.nets.sgcldff import TypeHead, centre_window, shrink, weighted_mean
from sgcldff.models.training.examples import read_scene
from sgcldff.models.training.losses import SmearLoss

pytestmark = pytest.mark.slow

OFF = NetSpec(pretrained=Pretrained.OFF)


def answer(spec, height=64, width=64, batch=2, prior=None):
    torch.manual_seed(0)
    net = build(spec).eval()
    image = torch.rand(batch, 3, height, width)
    prior = torch.rand(batch, len(spec.prior.names), height, width) if prior is None else prior
    with torch.inference_mode():
        return net(image, prior)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("labels", [WBC5, WBC6, BLAST_OR_NOT], ids=lambda space: str(len(space.classes)))
def test_every_network_supports_any_label_space(name, labels):
    spec = ModelSpec(net=replace(OFF, name=name), labels=labels)
    got = answer(spec)
    assert got.segmentation.shape == (2, 3, 64, 64)
    assert got.cell_type.shape == (2, len(labels.classes))
    assert got.evidence.shape == (2, 1, 16, 16)
    assert got.evidence.min() >= 0
    assert got.evidence.max() <= 1
    assert got.embedding.shape == (2, build(spec).embedding_width)
    assert got.contribution.shape == (2, 1, 16, 16)
    assert got.contribution.min() >= 0


def test_contributions_are_features_times_the_gradients_of_autograd():
    torch.manual_seed(0)
    head = TypeHead(fused=8, deep=6, classes=5, cell_px=60).eval()
    norm = head.embed[2]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    fused, deep = torch.randn(3, 8, 16, 16), torch.randn(3, 6, 4, 4)
    logits, evidence, _, contribution = head(fused, deep)
    weight = evidence * centre_window(evidence, head.sigma)
    branches = [(fused, weight), (deep, shrink(weight, deep))]
    pooled = torch.cat([weighted_mean(*branch) for branch in branches], dim=1).detach().requires_grad_()
    head.tell(head.embed(pooled)).max(dim=1).values.sum().backward()
    linear = (pooled.grad * pooled).sum(dim=1)
    parts = []
    for (features, own), gradient in zip(branches, pooled.grad.split((8, 6), dim=1), strict=True):
        share = own / own.mean(dim=(2, 3), keepdim=True)
        parts.append((features * gradient[:, :, None, None] * share).sum(dim=1, keepdim=True))
    torch.testing.assert_close(sum(part.mean(dim=(1, 2, 3)) for part in parts), linear)
    expected = parts[0] + nn.functional.interpolate(parts[1], size=(16, 16), mode="bilinear")
    torch.testing.assert_close(contribution, expected.relu())
    assert logits.shape == (3, 5)


def batch_for(spec):
    """Return images, priors, targets (bits; some unknown) and allowed classes for two images."""
    make = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 64, 64, generator=make).to(memory_format=torch.channels_last)
    prior = torch.rand(2, len(spec.prior.names), 64, 64, generator=make)
    target = torch.tensor([1, 2, 4, 7], dtype=torch.uint8)[torch.randint(0, 4, (2, 64, 64), generator=make)]
    return image, prior, target, torch.eye(len(spec.labels.classes))[[0, 3]].bool()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_batch_trains_every_weight_of_every_network(name, bf16):
    spec = ModelSpec(net=replace(OFF, name=name))
    torch.manual_seed(0)
    net = build(spec).train().to(memory_format=torch.channels_last)
    loss = SmearLoss(LossSpec(), torch.ones(5), net.embedding_width)
    image, prior, target, allowed = batch_for(spec)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        terms = loss(net(image, prior), prior, target, allowed)
    assert terms.segmentation.requires_grad == net.outlines
    assert torch.isfinite(terms.total)
    terms.total.backward()
    grads = {place: weight.grad for place, weight in net.named_parameters()}
    untaught = [place for place, grad in grads.items() if grad is None]
    # timm keeps unused stages of a shortened EfficientNet
    assert [place for place in untaught if not place.startswith("encoder.convolutional.")] == []
    assert all(torch.isfinite(grad).all() for grad in grads.values() if grad is not None)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"sgcldff"}))
@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 160), (256, 64)])
def test_every_baseline_accepts_any_tile_size(name, height, width):
    got = answer(ModelSpec(net=replace(OFF, name=name)), height, width, batch=1)
    assert got.segmentation.shape == (1, 3, height, width)
    assert got.evidence.shape == (1, 1, height // 4, width // 4)
    assert all(torch.isfinite(part).all() for part in (got.segmentation, got.cell_type, got.embedding))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_grad_cam_finds_its_layer(name):
    net, seen = build(ModelSpec(net=replace(OFF, name=name))).eval(), []
    net.cam_layer.register_forward_hook(lambda *passed: seen.append(passed[-1]))
    with torch.inference_mode():
        net(torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64))
    (found,) = seen
    maps = found if isinstance(found, tuple) else (found,)
    assert len(maps) == (2 if name == "sgcldff" else 1)
    assert all(len(one.shape) == 4 for one in maps)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet"])
def test_pure_classifiers_derive_outlines_from_the_prior(name):
    spec = ModelSpec(net=replace(OFF, name=name), prior=PriorSpec(names=("ramf", "spectral_residual")))
    ramp = torch.linspace(0, 1, 64).expand(1, 2, 64, 64)
    got = answer(spec, batch=1, prior=ramp)
    cell, nucleus = 1 - got.segmentation.softmax(1)[0, 0, 0], got.segmentation.softmax(1)[0, 2, 0]
    assert (cell.diff() >= 0).all()
    assert (nucleus.diff() >= 0).all()
    assert set(got.segmentation.argmax(1).unique().tolist()) == {0, 1, 2}
    assert not build(spec).outlines
    assert (got.evidence == 1).all()


def test_a_pure_classifier_classifies_the_cell_that_the_prior_shows(smears):
    catalog, _ = smears
    spec = ModelSpec(net=replace(OFF, name="efficientnet"))
    model = Model(spec, build(spec).eval(), torch.device("cpu"))
    crops = [sample for sample in catalog.samples if sample.label][:20]
    readings = predict_images(model, [(sample, read_scene(sample, spec.mpp)) for sample in crops])
    middle = spec.crop_px // 2
    on_cell = [reading.found and not reading.crop.target[middle, middle] & MAY_BE_BACKGROUND for reading in readings]
    assert np.mean(on_cell) >= 0.9


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


def test_several_priors_are_accepted():
    assert answer(ModelSpec(net=OFF, prior=PriorSpec(names=("ramf", "spectral_residual")))).segmentation.shape[1] == 3


def test_unknown_names_are_errors():
    with pytest.raises(InputError, match=r"'alexnet'.*sgcldff"):
        build(ModelSpec(net=replace(OFF, name="alexnet")))
    with pytest.raises(InputError, match="'effnet'"):
        build(ModelSpec(net=replace(OFF, backbone="effnet")))
