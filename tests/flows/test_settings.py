"""Settings from TOML, with options of the command line on top."""

import tomllib
from dataclasses import asdict

import pytest

from flows.settings import Settings, merge, read_settings
from sgcldff.errors import InputError
from sgcldff.specs import Mixing, Pretrained


def test_without_a_file_the_defaults_hold():
    assert read_settings(None) == Settings()


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        '[train]\nepochs = 3\n[train.loss]\ncentre = 0.5\n[net]\nmixing = "swin"\n[prior]\nnames = ["mbplus"]'
    )
    read = read_settings(path)
    assert (read.train.epochs, read.train.loss.centre, read.net.mixing) == (3, 0.5, Mixing.SWIN)
    assert read.prior.names == ("mbplus",)
    expected = asdict(Settings())
    expected["train"] |= {"epochs": 3, "loss": expected["train"]["loss"] | {"centre": 0.5}}
    expected["net"]["mixing"], expected["prior"]["names"] = Mixing.SWIN, ("mbplus",)
    assert asdict(read) == expected


def test_options_win_over_the_file_and_none_leaves_it(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[train]\nepochs = 3\nseed = 4\n[net]\npretrained = "off"')
    read = read_settings(path, {"train": {"epochs": 9, "seed": None}})
    assert (read.train.epochs, read.train.seed, read.net.pretrained) == (9, 4, Pretrained.OFF)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[trian]\nepochs = 3", "unknown trian"),
        ("[train]\nepoch = 3", "unknown train.epoch"),
        ("[train.loss]\ncenter = 3", "unknown train.loss.center"),
        ('[train]\nepochs = "three"', "train.epochs"),
        ("[train]\nepochs = 0", "epochs is 0"),
        ("[train]\nprior_epochs = 2\nprior_outlines = false", "prior_epochs is 2"),
        ("[train]\nrecolour = 1.5", "recolour is 1.5"),
        ("[train]\nrecolour = 0.5\naugment = 0", "recolour is 0.5, augment 0"),
        ('[net]\npretrained = "maybe"', "net.pretrained"),
        ("train = 3", "train"),
        ("[train", "not TOML"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path, text, told):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=told) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)


def test_merge_leaves_its_arguments_alone():
    base, top = tomllib.loads("[a]\nb = 1"), {"a": {"c": 2, "b": None}}
    assert merge(base, top) == {"a": {"b": 1, "c": 2}}
    assert base == {"a": {"b": 1}}
