"""Sizes and costs equal sums by hand over the shapes of layers."""

from dataclasses import replace

import pytest
import torch
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn

from sgcldff.core.errors import InputError
from sgcldff.core.settings import ModelSpec, NetSpec, Pretrained, PriorSpec
from sgcldff.models.nets import NETWORKS, build
from sgcldff.models.nets.complexity import flops, parameters, untrained

OFF = NetSpec(pretrained=Pretrained.OFF)


class Small(nn.Module):
    """A convolution, attention and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
        self.drop = nn.Dropout(0.5)
        self.tell = nn.Linear(8, 5)

    def forward(self, image: Tensor, prior: Tensor) -> Tensor:
        seen = self.drop(self.look(torch.cat((image, prior), dim=1))).flatten(2).transpose(1, 2)[:, None]
        attended = nn.functional.scaled_dot_product_attention(seen, seen, seen)
        return self.tell(attended.mean(dim=2))


def by_layer(net: nn.Module, side: int) -> int:
    """Add up 2 x outputs x inputs of every convolution and linear layer that runs."""
    total = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        total += 2 * output.numel() * layer.weight[0].numel()

    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with torch.inference_mode():
        net.eval()(torch.zeros(1, 3, side, side), torch.zeros(1, 1, side, side))
    for hook in hooks:
        hook.remove()
    return total


def test_the_cost_of_a_small_network_is_the_sum_by_hand() -> None:
    net, places = Small().train(), 16 * 16
    convolution = 2 * places * 8 * (2 * 3 * 3)
    attention = 2 * (2 * places * places * 8)
    assert flops(net, 32) == convolution + attention + 2 * 5 * 8
    assert net.training, "the network is not changed"
    assert parameters(net) == 8 * 2 * 9 + 8 + 8 * 5 + 5


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus", "resnet50", "efficientnet"])
def test_the_cost_of_convolutional_networks_is_the_sum_over_layers(name: str) -> None:
    spec = ModelSpec(net=replace(OFF, name=name))
    assert flops(build(spec), 64) == by_layer(build(spec), 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgcldff", "swin-unet"])
def test_attention_counts_whether_it_is_fused_or_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, counted = ModelSpec(net=replace(OFF, name=name)), []
    for fused in (2, 0):
        monkeypatch.setattr("timm.layers.config._USE_FUSED_ATTN", fused)
        net = build(spec)
        counted.append(flops(net, 64))
        blocks = [layer for layer in net.modules() if isinstance(layer, WindowAttention)]
        assert {block.fused_attn for block in blocks} == {fused == 2}
    assert counted[0] == counted[1]
    assert counted[0] > by_layer(build(spec), 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_an_untrained_network_costs_as_a_built_one_and_keeps_the_random_state(name: str) -> None:
    spec = ModelSpec(net=replace(OFF, name=name))
    net, state = build(spec), torch.random.get_rng_state()
    bare = untrained(replace(spec, net=replace(spec.net, pretrained=Pretrained.REQUIRED)))
    small, large = flops(bare, 64), flops(bare, 128)
    assert (torch.random.get_rng_state() == state).all()
    assert (flops(net, 64), parameters(net)) == (small, parameters(bare))
    assert 2 * small < large < 5 * small


def test_several_priors_cost_more() -> None:
    one, two = (
        flops(build(ModelSpec(net=OFF, prior=PriorSpec(names=names))), 64, len(names))
        for names in (("ramf",), ("ramf", "mbplus"))
    )
    assert one < two


def test_published_sizes() -> None:
    """ResNet-50 has 25.557 million weights with a head of 1000 classes, 2048000 + 1000 of them in it."""
    net = build(ModelSpec(net=replace(OFF, name="resnet50")))
    assert parameters(net) - (2048 * 5 + 5) == 25_557_032 - 2_049_000
    assert flops(net, 224) == pytest.approx(2 * 4.09e9, rel=0.02)


@pytest.mark.parametrize("side", [0, -32, 100])
def test_other_sides_are_refused(side: int) -> None:
    with pytest.raises(InputError, match=f"side_px is {side}.*multiple of 32"):
        flops(Small(), side)
