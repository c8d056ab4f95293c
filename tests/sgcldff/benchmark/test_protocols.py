"""What a benchmark trains, and on which images it scores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.benchmark.protocols import (
    BenchmarkPlan,
    Budget,
    Protocol,
    Training,
    leave_out,
    read_protocols,
    scored_samples,
    trainings,
    unscored_labels,
)
from sgcldff.core.errors import InputError
from sgcldff.core.labels import FIVE_TYPES, WBC6, WBC11, LabelSpace
from sgcldff.core.records import Split
from tests.sgcldff.benchmark.samples import sample


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("40", Budget(epochs=40)), ("40epochs", Budget(epochs=40)), ("1 epoch", Budget(epochs=1)), ("", Budget()),
        ("2h", Budget(seconds=7200)), ("90m", Budget(seconds=5400)), ("1h30m", Budget(seconds=5400)),
        ("1d2h", Budget(seconds=93600)), ("45min", Budget(seconds=2700)), ("30s", Budget(seconds=30)),
    ],
)  # fmt: skip
def test_a_budget_is_epochs_or_time(text, budget):
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("text", ["0", "0h", "two hours", "-3", "1.5h", "30m1h", "h"])
def test_other_budgets_are_refused_with_what_to_give(text):
    with pytest.raises(InputError, match=r"90m"):
        Budget.parse(text)


def test_protocols_are_read_and_checked_against_the_data():
    assert read_protocols("robustness, within") == (Protocol.WITHIN, Protocol.ROBUSTNESS)
    with pytest.raises(InputError, match=r"cross-validation is unknown.*left-out"):
        read_protocols("within,cross-validation")
    assert BenchmarkPlan().allowed(["a", "b"]) == tuple(Protocol)
    assert Protocol.LEFT_OUT not in BenchmarkPlan().allowed(["a"])
    with pytest.raises(InputError, match=r"only a.*--data"):
        BenchmarkPlan(protocols=(Protocol.LEFT_OUT,)).allowed(["a"])
    with pytest.raises(InputError, match="at least 1"):
        BenchmarkPlan(seeds=0)


@given(
    st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=4, unique=True),
    st.integers(1, 4),
    st.lists(st.sampled_from("abcd"), min_size=2, max_size=4, unique=True),
    st.sets(st.sampled_from(tuple(Protocol)), min_size=1),
)
def test_every_training_comes_once_and_all_contenders_before_the_next_seed(names, seeds, sources, protocols):
    planned = list(trainings(names, BenchmarkPlan(seeds, tuple(protocols)), sources))
    left_out = len(sources) if Protocol.LEFT_OUT in protocols else 0
    on_all = bool({Protocol.WITHIN, Protocol.ROBUSTNESS} & protocols)
    assert len(set(planned)) == len(planned) == len(names) * seeds * (left_out + on_all)
    assert [cell.seed for cell in planned] == sorted(cell.seed for cell in planned)
    assert [cell.candidate for cell in planned[: len(names)]] == names


def test_what_is_left_out_is_never_learned_from_nor_what_is_alike_it():
    samples = [
        sample("a1", None),
        sample("a2", None, group="twins"),
        sample("b1", None, group="twins"),
        sample("b2", None),
    ]
    assert [one.id for one in leave_out(samples, "a")] == ["b2"]


def test_labels_that_a_training_never_saw_are_not_scored():
    samples = [
        sample("a1", "blast"), sample("a2", "non-blast", Split.TEST), sample("a3", "neutrophil", Split.VAL),
        sample("b1", "neutrophil"), sample("b2", "monocyte", Split.TEST), sample("c1", "neutrophil", Split.TEST),
        sample("c2", "lymphocyte"),
    ]  # fmt: skip
    without_a = {one.id: one.label for one in scored_samples(samples, Training("x", 0, "a"), WBC6)}
    assert without_a == {"a1": None, "a2": None, "a3": "neutrophil"}
    assert unscored_labels(samples, "a", WBC6) == {"blast": 1, "non-blast": 1}
    within = scored_samples(samples, Training("x", 0), WBC6)
    assert [one.id for one in within] == ["a2", "b2", "c1"]
    assert within[0].label == "non-blast"


def test_a_label_finer_than_all_that_was_taught_is_asked_for_as_the_broader_one():
    held = ["band neutrophil", "segmented neutrophil", "myelocyte", "platelet", "monocyte"]
    samples = [sample(f"a{k}", label) for k, label in enumerate(held)]
    samples += [sample(f"b{k}", label) for k, label in enumerate(FIVE_TYPES)]
    asked = {one.id: one.label for one in scored_samples(samples, Training("x", 0, "a"), WBC11)}
    assert asked == {"a0": "neutrophil", "a1": "neutrophil", "a2": None, "a3": None, "a4": "monocyte"}
    assert unscored_labels(samples, "a", WBC11) == {"myelocyte": 1, "platelet": 1}
    bands = [*samples, sample("c1", "band neutrophil")]
    asked = {one.id: one.label for one in scored_samples(bands, Training("x", 0, "a"), WBC11)}
    assert (asked["a0"], asked["a1"]) == ("band neutrophil", "neutrophil")
    own = LabelSpace(("platelet", "monocyte", "lymphocyte"))
    platelets = [sample("a1", "platelet"), sample("b1", "monocyte"), sample("b2", "lymphocyte")]
    assert unscored_labels(platelets, "a", own) == {"platelet": 1}


def test_a_label_that_leaves_no_wrong_answer_is_not_scored():
    five = [sample(f"b{k}", label) for k, label in enumerate(FIVE_TYPES)]
    asked = [sample("a1", "blast"), sample("a2", "non-blast"), sample("a3", "neutrophil")]
    assert unscored_labels([*asked, *five], "a", WBC6) == {"blast": 1, "non-blast": 1}
    assert unscored_labels([*asked, *five, sample("c1", "blast")], "a", WBC6) == {}
    assert unscored_labels([*asked, sample("b1", "neutrophil")], "a", WBC6) == {
        "blast": 1,
        "neutrophil": 1,
        "non-blast": 1,
    }
