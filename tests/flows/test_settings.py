"""Settings from TOML, with options of the command line on top."""

import tempfile
import tomllib
from dataclasses import asdict, fields, is_dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.settings import Settings, merge, read_settings
from flows.settings_file import to_toml
from sgcldff.core.errors import InputError
from sgcldff.core.settings import Mixing, Pretrained


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
        ("[train]\ndoubted_labels = ['eosinophil']", "give data set/type"),
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


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
NAMES = st.lists(TEXTS, min_size=2, max_size=4, unique=True)
STATED = st.fixed_dictionaries(
    {},
    optional={
        "ingest": st.fixed_dictionaries(
            {"hash_distance": st.integers(0, 16)},
            optional={"labels": st.one_of(st.none(), st.builds(lambda classes: {"classes": classes}, NAMES))},
        ),
        "prior": st.fixed_dictionaries(
            {"names": st.lists(TEXTS, min_size=1, max_size=3), "mpp": st.floats(0.02, 8)},
        ),
        "net": st.fixed_dictionaries(
            {"name": TEXTS, "pretrained": st.sampled_from(["auto", "required", "off"]), "prior_gate": st.booleans()}
        ),
        "train": st.fixed_dictionaries(
            {
                "epochs": st.integers(1, 10**6),
                "learning_rate": st.floats(1e-12, 1),
                "precision": st.sampled_from(["auto", "bf16-mixed"]),
            },
        ),
        "promote": st.fixed_dictionaries({"robustness": st.lists(st.sampled_from(["hue", "blur", "jpeg"]))}),
        "infer": st.fixed_dictionaries({"gate": st.fixed_dictionaries({"smallest_um2": st.floats(0, 1e9)})}),
    },
)


@given(STATED)
def test_what_is_printed_is_read_back(stated):
    settings = read_settings(None, stated)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.toml"
        path.write_text(to_toml(settings), encoding="utf-8")
        assert read_settings(path) == settings


def test_coarse_labels_are_printed_as_they_are_read(tmp_path):
    path = tmp_path / "s.toml"
    labels = {"classes": ("blast", "monocyte", "basophil"), "coarse": {"not a blast": ("monocyte", "basophil")}}
    settings = read_settings(None, {"ingest": {"labels": labels}})
    path.write_text(to_toml(settings))
    assert asdict(read_settings(path))["ingest"]["labels"] == labels


def keys_of(spec: object, above: str = ""):
    """Yield the path of every key of the settings; tables come after the keys beside them."""
    for item in sorted(fields(spec), key=lambda item: is_dataclass(getattr(spec, item.name))):
        value = getattr(spec, item.name)
        if is_dataclass(value):
            yield from keys_of(value, f"{above}{item.name}.")
        elif item.name != "version":
            yield f"{above}{item.name}"


def test_every_key_is_printed_below_what_it_means():
    lines, table, found = to_toml(Settings()).splitlines(), "", []
    for before, line in pairwise(lines):
        if line.startswith("["):
            table = line.strip("[]") + "."
        elif "=" in line and before.startswith("# "):
            found.append(table + line.lstrip("# ").partition(" =")[0])
    assert sorted(found) == sorted(keys_of(Settings()))


def test_the_values_of_an_enumeration_are_named():
    text = " ".join(line.removeprefix("# ") for line in to_toml(Settings()).splitlines())
    assert "One of: auto, torch, compiled, openvino. engine = " in text
    assert "Some of: hue, brightness, blur, jpeg, noise. robustness = " in text
