import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.errors import LabelError
from sgcldff.core.labels import (
    BAND,
    BLAST,
    BLAST_OR_NOT,
    BROADER,
    ERYTHROBLAST,
    FIVE_TYPES,
    IMMATURE_GRANULOCYTE,
    NAMES,
    NO_WHITE_CELL,
    NON_BLAST,
    PLATELET,
    PRESETS,
    PROMYELOCYTE,
    SEGMENTED,
    SUBTYPES,
    SYNONYMS,
    WBC5,
    WBC6,
    WBC11,
    WBC12,
    LabelSpace,
    canonical,
    smallest_label_space,
)
from sgcldff.core.validation import validated
from sgcldff.data.catalog.checks import KNOWN_LABELS

NEUTROPHIL = "neutrophil"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_its_own_canonical_form_in_any_spelling(name):
    for spelling in (name, name.upper(), f" {name}s ", name.replace(" ", "_")):
        assert canonical(spelling) == name


def test_synonyms_map_to_names():
    assert set(SYNONYMS.values()) <= set(NAMES)
    assert not set(SYNONYMS) & set(NAMES)


def test_five_types_accept_finer_neutrophils_but_no_immature_cells():
    for label in (NEUTROPHIL, SEGMENTED, BAND):
        assert WBC5.members(label) == (NEUTROPHIL,)
        assert WBC5.resolve(label) == NEUTROPHIL
    for label in (PROMYELOCYTE, IMMATURE_GRANULOCYTE, ERYTHROBLAST, PLATELET, BLAST, "neutro"):
        assert label not in WBC5.known
        with pytest.raises(LabelError, match=f"label '{label}' is in no class.*band neutrophil"):
            WBC5.allowed(label)


def test_fine_classes_accept_broad_labels_as_all_of_their_members():
    assert WBC11.members(NEUTROPHIL) == (SEGMENTED, BAND)
    assert WBC11.members(IMMATURE_GRANULOCYTE) == SUBTYPES[IMMATURE_GRANULOCYTE]
    assert WBC11.members(PLATELET) == WBC11.members("debris") == (NO_WHITE_CELL,)
    assert WBC12.members(NON_BLAST) == ("segmented neutrophil", "band neutrophil", *FIVE_TYPES[1:])
    assert len(WBC11.classes) == 11
    assert len(WBC12.classes) == 12


@pytest.mark.parametrize("space", PRESETS.values(), ids=PRESETS)
def test_known_labels_are_those_that_allow_some_class(space):
    for name in NAMES:
        if name in space.known:
            assert space.allowed(name).any()
            assert space.resolve(name) in (*space.classes, *space.coarse)
        else:
            with pytest.raises(LabelError):
                space.allowed(name)
    assert space.allowed(None).all()
    for fine in (SEGMENTED, BAND):
        if NEUTROPHIL in space.known and fine in space.known:
            assert not (space.allowed(fine) & ~space.allowed(NEUTROPHIL)).any()


@pytest.mark.parametrize("space", PRESETS.values(), ids=PRESETS)
def test_a_space_survives_json(space):
    assert validated(LabelSpace, json.loads(json.dumps(space.to_dict())), "a space") == space


def test_the_five_types_are_written_as_they_always_were():
    assert WBC5.to_dict() == {"classes": list(FIVE_TYPES), "coarse": {}}
    assert WBC6.to_dict() == {"classes": [*FIVE_TYPES, "blast"], "coarse": {"non-blast": list(FIVE_TYPES)}}


@pytest.mark.parametrize(
    ("labels", "space"),
    [
        ((*FIVE_TYPES, None), WBC5),
        ((SEGMENTED, BAND, NEUTROPHIL, "monocyte"), WBC5),
        ((BLAST, NON_BLAST), BLAST_OR_NOT),
        ((*FIVE_TYPES, BLAST), WBC6),
        (WBC11.classes, WBC11),
        ((*WBC11.classes, NEUTROPHIL, IMMATURE_GRANULOCYTE, PLATELET), WBC11),
        ((*WBC11.classes, BLAST, NON_BLAST), WBC12),
    ],
)
def test_the_smallest_preset_that_accepts_all_labels_is_chosen(labels, space):
    assert smallest_label_space(labels) == space


def test_a_preset_with_unlabelled_fine_classes_is_not_chosen():
    assert smallest_label_space([*FIVE_TYPES, PLATELET, "debris"]).classes == tuple(
        sorted((*FIVE_TYPES, NO_WHITE_CELL))
    )
    mixed = smallest_label_space([NEUTROPHIL, SEGMENTED, ERYTHROBLAST])
    assert mixed.classes == (ERYTHROBLAST, NEUTROPHIL)
    assert mixed.members(SEGMENTED) == (NEUTROPHIL,)
    split = smallest_label_space([NEUTROPHIL, SEGMENTED, BAND, ERYTHROBLAST])
    assert split.classes == (BAND, ERYTHROBLAST, SEGMENTED)
    assert set(split.members(NEUTROPHIL)) == {SEGMENTED, BAND}


@given(st.sets(st.sampled_from([name for name in NAMES if name != NON_BLAST]), min_size=3))
def test_the_chosen_space_accepts_all_labels(labels):
    try:
        space = smallest_label_space(labels)
    except LabelError:
        broad = {BROADER.get(label, label) for label in labels}
        assert len(broad) == 1
        return
    assert labels <= set(space.known)
    assert np.all([space.allowed(label).any() for label in labels])


def test_the_catalog_accepts_every_name():
    assert set(KNOWN_LABELS) == set(NAMES)


@given(st.integers(0, 2**31))
def test_a_limit_of_confidence_applies_to_the_broader_type(seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.full(len(WBC11.classes), 0.3), 5)
    for row, found in zip(probabilities, WBC11.broad_confidence(probabilities), strict=True):
        best = WBC11.classes[int(row.argmax())]
        own = BROADER.get(best, best)
        members = [p for name, p in zip(WBC11.classes, row, strict=True) if BROADER.get(name, name) == own]
        assert found == pytest.approx(sum(members))
    plain = np.random.default_rng(seed).dirichlet(np.ones(5), 4)
    np.testing.assert_allclose(WBC5.broad_confidence(plain), plain.max(axis=1))


@pytest.mark.parametrize(
    ("space", "label", "broad"),
    [
        (WBC11, "band neutrophil", "neutrophil"),
        (WBC11, "myelocyte", "immature granulocyte"),
        (WBC11, "monocyte", "monocyte"),
        (WBC11, "neutrophil", "neutrophil"),
        (WBC5, "band neutrophil", "neutrophil"),
        (WBC5, "myelocyte", "myelocyte"),
    ],
)
def test_a_label_is_broadened_as_far_as_the_space_knows_the_broader_one(space, label, broad):
    assert space.broaden(label) == broad
