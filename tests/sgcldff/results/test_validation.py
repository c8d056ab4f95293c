"""Made-up studies of known bias: the figures recover it, and their intervals cover it."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest, t

from sgcldff.core.errors import InputError
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import ModelRef
from sgcldff.counting.reference_counts import ReferenceTable
from sgcldff.counting.reference_intervals import ReferenceRow, Unit
from sgcldff.results.validation import read_study, write_validation
from sgcldff.results.validation.abnormal import chance_to_show, detections
from sgcldff.results.validation.by_type import compare_types, compared
from tests.sgcldff.results.studies import ALPHA, confused, made_study, write_result, write_study

SLOPE, MOVED = 0.88, 0.03
ROWS = (ReferenceRow("neutrophil", Unit.PERCENT, 45, 75), ReferenceRow("lymphocyte", Unit.ABSOLUTE, 1, 4))


@pytest.mark.slow
def test_the_bias_of_the_model_is_found_and_intervals_cover():
    mean = 100 * ALPHA[0] / ALPHA.sum()
    truth = {"bias": (SLOPE - 1) * mean + 100 * MOVED, "slope": SLOPE, "intercept": 100 * MOVED}
    held, runs = dict.fromkeys(truth, 0), 40
    for seed in range(runs):
        one = compared(made_study(40, seed, confused(SLOPE, MOVED)), "neutrophil")
        found = {"bias": one.differences.bias, "slope": one.deming.slope, "intercept": one.deming.intercept}
        for name, true in truth.items():
            held[name] += found[name].low <= true <= found[name].high
    assert min(held.values()) >= binom.ppf(0.001, runs, 0.95), held


def test_a_model_that_is_right_differs_by_chance_only():
    types = compare_types(made_study(80, 3))
    assert len(types) == 5
    for one in types:
        assert one.differences.spread == pytest.approx(one.by_chance, rel=0.25)
        assert one.within.share > 0.85
        assert one.readers_within.share > 0.7
        assert abs(one.differences.bias.value) < one.differences.detectable


def test_abnormal_smears_are_counted_as_the_shares_say():
    ours = made_study(60, 5, confused(0.8, 0.0))
    overall, neutrophils = detections(ours, ROWS)
    outside = np.array(
        [
            [not 45 <= 100 * one.reference.pooled["neutrophil"] / 400 <= 75, not 45 <= 100 * share.share <= 75]
            for one in ours.specimens
            for share in [one.found["neutrophil"]]
        ]
    )
    both, abnormal = outside.all(axis=1).sum(), outside[:, 0].sum()
    for one in (overall, neutrophils):
        assert (one.sensitivity.count, one.sensitivity.total) == (both, abnormal)
        exact = binomtest(int(both), int(abnormal)).proportion_ci(0.95)
        assert (one.sensitivity.low, one.sensitivity.high) == pytest.approx((exact.low, exact.high))
        assert one.specificity.count == (~outside).all(axis=1).sum()
        assert one.agreement.count == (outside[:, 0] == outside[:, 1]).sum()
    assert detections(ours, ROWS[1:]) == (), "absolute intervals decide nothing here"
    assert detections(ours, [ReferenceRow("monocyte", Unit.PERCENT, 0, 9, (18, 60))]) == (), "ages are not known"


def test_a_type_that_the_model_lacks_is_missed_and_told(tmp_path):
    table = write_study(tmp_path, made_study(12, 1))
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},blast", *(f"{row},{20 * (n < 6)}" for n, row in enumerate(rows))]))
    ours = read_study(tmp_path / "results", ReferenceTable.read(table))
    (overall, blasts) = detections(ours, [ReferenceRow("blast", Unit.PERCENT, 0, 1)])
    assert (blasts.sensitivity.count, blasts.sensitivity.total, blasts.specificity.count) == (0, 3, 9)
    assert overall.sensitivity == blasts.sensitivity
    assert any("types that this model does not recognise: blast (in 3 specimens)" in flag for flag in ours.flags)


@pytest.mark.parametrize(("smears", "least", "most"), [(10, 0, 0), (60, 0.4, 0.8), (400, 0.99, 1)])
def test_the_power_of_few_abnormal_smears_is_low(smears, least, most):
    power = chance_to_show(smears, 0.95)
    drawn = np.random.default_rng(0).binomial(smears, 0.95, 1000)
    low = beta.ppf(0.025, drawn, smears - drawn + 1)
    assert least <= power <= most
    assert power == pytest.approx((low > 0.85).mean(), abs=0.05)


class Loaded(HTMLParser):
    """What a page loads or runs."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src")]


def test_the_page_stands_alone_and_escapes_names(tmp_path):
    table = write_study(tmp_path, made_study(10, 2))
    table.write_text(table.read_text().replace("Anna", "<script>alert(1)</script>"))
    page, told = write_validation(
        tmp_path / "out", read_study(tmp_path / "results", ReferenceTable.read(table)), ROWS, "lab.toml"
    )
    loaded = Loaded(page.read_text())
    assert "script" not in loaded.tags
    assert loaded.addresses == []
    assert loaded.tags.count("svg") == 10
    for words in (
        "For research use. Not for diagnosis.",
        "10 specimens: CLSI H20-A2 asks for at least 200",
        "Signature",
    ):
        assert words in page.read_text()
    content = json.loads(told.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert content["purpose"] == "research use only, not for diagnosis"
    assert content["methods"]["not_covered"]
    assert [one["label"] for one in content["types"]] == list(FIVE_TYPES)
    assert len(content["specimens"]) == 10


def test_slides_of_one_specimen_are_one_sample(tmp_path):
    """Two slides of each: intervals are those of twelve samples of twice the cells, not of 24."""
    table = write_study(tmp_path, made_study(24, 6))
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},specimen", *(f"{row},blood-{at // 4}" for at, row in enumerate(rows))]))
    ours = read_study(tmp_path / "results", ReferenceTable.read(table))
    assert len(ours.specimens) == 12
    apart = made_study(24, 6).specimens
    for one, first, second in zip(ours.specimens, apart[::2], apart[1::2], strict=True):
        assert one.found.counted == first.found.counted + second.found.counted
        for at in range(2):
            both = (first.reference.counts[at], second.reference.counts[at])
            assert one.reference.counts[at] == {label: both[0][label] + both[1][label] for label in FIVE_TYPES}
    found = compared(ours, "neutrophil").differences
    assert found.bias.high - found.bias.value == pytest.approx(t.ppf(0.975, 11) * found.spread / np.sqrt(12))
    assert "12 specimens: CLSI H20-A2 asks for at least 200" in ours.flags[0]


def test_results_that_make_no_study_are_refused(tmp_path):
    table = write_study(tmp_path, made_study(10, 2))
    write_result(tmp_path / "results" / "slide-003", {"neutrophil": 10}, ModelRef("other", "1", "00" * 8))
    with pytest.raises(InputError, match=r"read with several models, other version 1 .*, sgcldff version 3 .*one of"):
        read_study(tmp_path / "results", ReferenceTable.read(table))
    table.write_text(table.read_text().replace("slide-003", "slide-x"))
    with pytest.raises(
        InputError, match=r"9 of its specimens have results in .*at least 10 are needed.*slide-x: no result"
    ):
        read_study(tmp_path / "results", ReferenceTable.read(table))


def test_a_type_that_the_readers_did_not_name_is_not_judged():
    rows = [ROWS[0], ReferenceRow("erythroblast", Unit.PERCENT, 0, 1), ReferenceRow("blast", Unit.PERCENT, 0, 1)]
    assert [one.label for one in detections(made_study(12, 1), rows)] == ["any type", "neutrophil"]
