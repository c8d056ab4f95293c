"""Mixed styles: what they change, what they leave, and when."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sgcldff.core.settings import Mixing, ModelSpec, NetSpec, Pretrained, TrainSpec
from sgcldff.models.nets import build
from sgcldff.models.nets.base import NETWORKS
from sgcldff.models.training import style
from sgcldff.models.training.losses import class_weights
from sgcldff.models.training.style import StyleMixing, mix_styles
from sgcldff.models.training.trainer import SmearModule


def normalised(features):
    """Features without their style: mean 0 and variance 1 in every map."""
    return nn.functional.instance_norm(features)


@given(seed=st.integers(0, 1000), batch=st.integers(2, 6))
def test_shapes_stay_and_styles_lie_between_those_of_the_batch(seed, batch):
    torch.manual_seed(seed)
    features = torch.randn(batch, 3, 8, 8) * (1 + torch.rand(batch, 3, 1, 1)) + torch.randn(batch, 3, 1, 1)
    mixed = mix_styles(features)
    assert torch.allclose(normalised(mixed), normalised(features), atol=1e-3)
    own, new = features.mean(dim=(2, 3)), mixed.mean(dim=(2, 3))
    assert (new <= own.amax(dim=0) + 1e-4).all()
    assert (new >= own.amin(dim=0) - 1e-4).all()


def test_flat_maps_stay_finite_and_the_numeric_type_is_kept():
    flat = torch.full((4, 2, 4, 4), 3.0, dtype=torch.bfloat16)
    mixed = mix_styles(flat)
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, flat)


def test_styles_are_mixed_in_training_alone_and_in_the_share_of_steps_that_was_set():
    layer, features = nn.Identity(), torch.randn(4, 2, 8, 8)
    layer.register_forward_hook(StyleMixing(0.25))
    torch.manual_seed(0)
    changed = sum(not torch.equal(layer(features), features) for _ in range(400))
    assert 70 <= changed <= 130
    layer.eval()
    assert all(torch.equal(layer(features), features) for _ in range(20))


def test_the_same_seed_mixes_the_same_styles():
    features = torch.randn(4, 2, 8, 8)
    once, again = (mix_styles(features) for _ in range(2) if torch.manual_seed(3))
    assert torch.equal(once, again)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_early_layers_have_strides_of_at_most_4(name):
    spec = ModelSpec(net=NetSpec(name=name, pretrained=Pretrained.OFF))
    net, seen = build(spec).eval(), []
    for layer in net.early_layers:
        layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.shape))
    with torch.inference_mode():
        net(torch.rand(2, 3, 64, 64), torch.rand(2, len(spec.prior.names), 64, 64))
    assert [shape[-1] for shape in seen] == ([] if name == "swin-unet" else [32, 16])


def test_a_network_of_swin_blocks_alone_has_one_early_convolution():
    net = build(ModelSpec(net=NetSpec(mixing=Mixing.SWIN, pretrained=Pretrained.OFF)))
    assert len(net.early_layers) == 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_training_mixes_styles_only_if_it_is_told_to(monkeypatch, share):
    mixed = []
    monkeypatch.setattr(style, "mix_styles", lambda features: mixed.append(features.shape[1]) or features)
    spec = ModelSpec(net=NetSpec(pretrained=Pretrained.OFF))
    module = SmearModule(build(spec), TrainSpec(mix_styles=share), class_weights([], spec.labels)).train()
    module.net(torch.rand(4, 3, 64, 64), torch.rand(4, len(spec.prior.names), 64, 64))
    assert mixed == ([16, 24] if share else [])
