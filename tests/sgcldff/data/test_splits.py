from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.records import Split
from sgcldff.core.settings import SplitSpec
from sgcldff.data.catalog.splits import SplitItem, assign_splits, link

STRATA = [("a", "x"), ("a", "y"), ("b", "x")]


@st.composite
def collections(draw, max_size=40):
    """Entries in a few groups and strata, and links between some of them."""
    count = draw(st.integers(0, max_size))
    groups = draw(st.lists(st.integers(0, max(1, count)), min_size=count, max_size=count))
    strata = draw(st.lists(st.sampled_from(STRATA), min_size=count, max_size=count))
    entries = [SplitItem(f"{i:04d}", f"s/{i}", f"g/{groups[i]}", strata[i]) for i in range(count)]
    index = st.integers(0, max(0, count - 1))
    pairs = draw(
        st.lists(st.tuples(index, index).filter(lambda pair: pair[0] != pair[1]), max_size=count if count > 1 else 0)
    )
    return entries, pairs


def split(entries, pairs, spec=None, previous=None):
    """Run both steps: index -> split, and index -> reason."""
    previous = previous or {}
    known = [SplitItem(e.key, e.name, e.group, e.stratum, previous.get(e.key, Split.UNASSIGNED)) for e in entries]
    linked = link(known, pairs)
    grouped = {
        i: SplitItem(known[i].key, known[i].name, g, known[i].stratum, known[i].previous)
        for i, g in linked.groups.items()
    }
    sides = assign_splits(list(grouped.values()), spec or SplitSpec())
    return {i: sides[entry.group] for i, entry in grouped.items()}, linked.refused


@given(collections(), st.integers(0, 3))
def test_linked_images_and_groups_share_a_split(collection, seed):
    entries, pairs = collection
    sides, refused = split(entries, pairs, SplitSpec(seed=seed))
    assert not refused
    assert set(sides) == set(range(len(entries)))
    assert all(sides[a] is sides[b] for a, b in pairs)
    by_group = defaultdict(set)
    for index, side in sides.items():
        by_group[entries[index].group].add(side)
    assert all(len(found) == 1 for found in by_group.values())
    assert Split.UNASSIGNED not in sides.values()


@given(collections(), st.data())
def test_adding_images_moves_none_and_causes_no_leak(collection, data):
    entries, pairs = collection
    count = data.draw(st.integers(0, len(entries)))
    before, _ = split(entries[:count], [pair for pair in pairs if max(pair) < count])
    previous = {entries[i].key: side for i, side in before.items()}
    after, refused = split(entries, pairs, previous=previous)
    assert all(after[i] is side for i, side in before.items())
    assert all(index >= count for index in refused)
    kept_pairs = [(a, b) for a, b in pairs if a in after and b in after]
    assert all(after[a] is after[b] for a, b in kept_pairs)
    by_group = defaultdict(set)
    for index, side in after.items():
        by_group[entries[index].group].add(side)
    assert all(len(found) == 1 for found in by_group.values())


@given(collections())
def test_the_order_of_the_images_does_not_matter(collection):
    entries, pairs = collection
    sides, _ = split(entries, pairs)
    last = len(entries) - 1
    turned, _ = split(entries[::-1], [(last - a, last - b) for a, b in pairs])
    assert {entries[i].key: side for i, side in sides.items()} == {
        entries[last - i].key: side for i, side in turned.items()
    }


@given(
    st.lists(st.sampled_from(STRATA), min_size=1, max_size=200),
    st.floats(0, 0.4),
    st.floats(0, 0.4),
    st.integers(0, 99),
)
def test_shares_of_each_stratum_are_exact_to_within_an_image(strata, val, test, seed):
    entries = [SplitItem(f"{i:04d}", f"s/{i}", f"s/{i}", stratum) for i, stratum in enumerate(strata)]
    sides, _ = split(entries, [], SplitSpec(val=val, test=test, seed=seed))
    shares = {Split.VAL: val, Split.TEST: test, Split.TRAIN: 1 - val - test}
    for stratum in set(strata):
        inside = [i for i in sides if strata[i] == stratum]
        counts = Counter(sides[i] for i in inside)
        for side, share in shares.items():
            assert abs(counts[side] - share * len(inside)) <= 1 + 1e-9
            assert share > 0 or counts[side] == 0


def test_seeds_give_other_splits():
    entries = [SplitItem(f"{i:04d}", f"s/{i}", f"s/{i}", STRATA[0]) for i in range(60)]
    assert split(entries, [], SplitSpec(seed=0))[0] != split(entries, [], SplitSpec(seed=1))[0]


def test_an_image_between_two_splits_is_refused_and_named():
    old = [SplitItem("a", "set/old1", "g1", STRATA[0]), SplitItem("b", "set/old2", "g2", STRATA[0])]
    new = [SplitItem("c", "set/new", "g3", STRATA[0]), SplitItem("d", "set/fine", "g4", STRATA[0])]
    sides, refused = split([*old, *new], [(0, 2), (1, 2)], previous={"a": Split.TRAIN, "b": Split.TEST})
    assert set(sides) == {0, 1, 3}
    assert "set/old1 (train)" in refused[2]
    assert "set/old2 (test)" in refused[2]


def test_a_new_image_of_an_old_patient_joins_its_split():
    entries = [SplitItem("a", "s/1", "patient", STRATA[0]), SplitItem("b", "s/2", "patient", STRATA[1])]
    for side in (Split.TRAIN, Split.VAL, Split.TEST):
        assert split(entries, [], previous={"a": side})[0] == {0: side, 1: side}


def test_when_old_images_turn_out_to_be_one_patient_the_test_split_stays():
    entries = [SplitItem("a", "s/1", "patient", STRATA[0]), SplitItem("b", "s/2", "patient", STRATA[0])]
    sides, refused = split(entries, [], previous={"a": Split.TRAIN, "b": Split.TEST})
    assert sides == {1: Split.TEST}
    assert list(refused) == [0]
