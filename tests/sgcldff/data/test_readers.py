"""Agreement of readers on the same cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from sgcldff.data.reviews.consensus import consensus_of
from sgcldff.data.reviews.readers import cohen_kappa, reader_agreements
from tests.sgcldff.results.verdicts import review

TYPES = ("neutrophil", "lymphocyte", "monocyte")


@given(st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from(TYPES)), min_size=1, max_size=40))
def test_kappa_is_that_of_scikit_learn_and_inside_its_interval(labels):
    found = cohen_kappa(labels)
    if len({label for pair in labels for label in pair}) < 2:
        assert found is None
    else:
        assert found.value == pytest.approx(cohen_kappa_score(*zip(*labels, strict=True)))
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9 <= 1 + 1e-9


@pytest.mark.parametrize(("cells", "slips"), [(30, 0.05), (30, 0.3), (150, 0.05), (150, 0.3)])
def test_the_interval_holds_the_true_kappa_as_often_as_it_says(cells, slips):
    rng, shares = np.random.default_rng(cells), np.array([0.6, 0.3, 0.1])
    table = (1 - slips) * np.diag(shares) + slips * np.outer(shares, np.full(3, 1 / 3))
    chance = float(table.sum(axis=0) @ table.sum(axis=1))
    true = (np.trace(table) - chance) / (1 - chance)
    drawn = rng.choice(9, (300, cells), p=table.ravel())
    found = [cohen_kappa([(TYPES[at // 3], TYPES[at % 3]) for at in row]) for row in drawn]
    assert np.mean([one.low <= true <= one.high for one in found]) >= 0.93


def test_readers_who_always_agree_are_not_certain_to():
    perfect = cohen_kappa([("neutrophil", "neutrophil")] * 10 + [("lymphocyte", "lymphocyte")] * 10)
    assert (perfect.value, perfect.high) == (1, 1)
    assert perfect.low == pytest.approx(1 - 2 * (1 - 0.025 ** (1 / 20)))


def test_two_readers_are_compared_on_the_cells_of_both_by_their_last_answers():
    answers = {
        "Ana": ["neutrophil", "monocyte", "monocyte", "lymphocyte"],
        "bo": ["neutrophil", "monocyte", "smudge cell"],
    }
    given_ = [review(cell, label, name) for name, labels in answers.items() for cell, label in enumerate(labels)]
    given_ += [review(1, "lymphocyte", "BO", minutes=1), review(0, "monocyte", "Cy")]
    pairs = {one.readers: one for one in reader_agreements(consensus_of(given_))}
    assert {tuple(map(str.casefold, names)): one.cells for names, one in pairs.items()} == {
        ("ana", "bo"): 3, ("ana", "cy"): 1, ("bo", "cy"): 1,
    }  # fmt: skip
    both = next(one for names, one in pairs.items() if names[0] == "Ana" and names[1].casefold() == "bo")
    assert both.agreed == 1
    assert [(one.cell_id, one.label, other.label) for one, other in both.disagreements] == [
        ("s-x1", "monocyte", "lymphocyte"),
        ("s-x2", "monocyte", "smudge cell"),
    ]
