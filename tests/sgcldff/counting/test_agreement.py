import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.labels import FIVE_TYPES, WBC6
from sgcldff.core.records import UNIDENTIFIED, Lineage
from sgcldff.counting.agreement import compare, holm, read_agreements, read_manual, write_agreements
from sgcldff.counting.differential import from_counts

LINEAGE = Lineage("ab" * 32, "sgcldff", "3", "cd" * 8, "ef" * 8, "0.1.0")
TYPICAL = {"neutrophil": 610, "eosinophil": 24, "basophil": 6, "lymphocyte": 290, "monocyte": 70}


def found(counts=TYPICAL):
    return from_counts(counts, FIVE_TYPES)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (0, 100, 0, 4),
        (1, 100, 0, 6),
        (5, 100, 1, 12),
        (10, 100, 4, 18),
        (50, 100, 39, 61),
        (0, 200, 0, 2),
        (20, 200, 6, 16),
    ],
)
def test_the_limits_are_those_of_ruemkes_table(count, total, low, high):
    """Ruemke's table gives whole percents, rounded outwards."""
    (one, *_) = compare(found(), {"neutrophil": count, "monocyte": total - count})
    assert (math.floor(100 * one.manual.low), math.ceil(100 * one.manual.high)) == (low, high)


def fisher(one, total, other, other_total):
    """Sum the probabilities of all tables with these margins that are no likelier than this one."""
    law = hypergeom(total + other_total, one + other, total)
    chances = law.pmf(np.arange(0, one + other + 1))
    return min(1.0, chances[chances <= law.pmf(one) * (1 + 1e-7)].sum())


@given(st.lists(st.integers(0, 60), min_size=5, max_size=5), st.lists(st.integers(0, 200), min_size=5, max_size=5))
def test_p_values_are_those_of_the_exact_test_and_adjusted_for_all_types(by_hand, here):
    assume(sum(by_hand) and sum(here))
    manual = dict(zip(FIVE_TYPES, by_hand, strict=True))
    agreements = compare(found(dict(zip(FIVE_TYPES, here, strict=True))), manual)
    for one in agreements:
        expected = fisher(one.manual.count, sum(by_hand), one.found.count, sum(here))
        assert one.p_value == pytest.approx(expected, abs=1e-6)
        assert one.p_value <= one.adjusted <= 1
        assert one.differs == (one.adjusted < 0.05)
        assert one.within_limits == (one.manual.low <= one.found.share <= one.manual.high)


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


@pytest.mark.slow
def test_the_same_smear_counted_twice_is_rarely_said_to_differ():
    rng, shares = np.random.default_rng(0), np.array([0.6, 0.03, 0.005, 0.3, 0.065])
    alarms = 0
    for _ in range(80):
        by_hand, here = (dict(zip(FIVE_TYPES, map(int, rng.multinomial(n, shares)), strict=True)) for n in (200, 900))
        alarms += any(one.differs for one in compare(found(here), by_hand))
    assert alarms <= 0.05 * 80 + 5


def test_a_true_difference_is_seen():
    by_type = {one.label: one for one in compare(found(), {"neutrophil": 80, "lymphocyte": 110, "monocyte": 10})}
    assert by_type["neutrophil"].reads == by_type["lymphocyte"].reads == "differs"
    assert by_type["monocyte"].reads == "agrees"


def test_outside_the_limits_but_within_chance_is_neither_agreement_nor_difference():
    one = compare(found(), {"neutrophil": 50, "lymphocyte": 40, "monocyte": 10})[0]
    assert not one.within_limits
    assert one.reads == "outside the limits, within chance"


def test_counts_without_cells_neither_agree_nor_differ_for_sure():
    assert {(one.p_value, one.differs) for one in compare(found({}), {})} == {(1.0, False)}
    said = {one.reads for one in (*compare(found({}), {"monocyte": 9}), *compare(found(), {}))}
    assert said == {"cannot tell: nothing was counted"}


def test_unidentified_cells_of_the_manual_count_enter_no_share():
    plain = compare(found(), {"neutrophil": 60, "lymphocyte": 40})
    assert compare(found(), {"neutrophil": 60, "lymphocyte": 40, UNIDENTIFIED: 11}) == plain


def test_types_that_the_model_lacks_come_first_and_stay_in_the_denominator():
    first, *others = compare(found(), {"neutrophil": 60, "lymphocyte": 20, "blast": 20, "erythroblast": 5})
    assert (first.label, first.manual.share, first.found, first.differs) == ("blast", 0.2, None, False)
    assert first.reads == "not a type of this model"
    nucleated, *known = others
    assert (nucleated.label, nucleated.manual.share) == ("erythroblast", 0.05), "per white cell"
    assert {one.label: one.manual.share for one in known}["neutrophil"] == 0.6
    assert first.cells == (100, 1000)


@pytest.mark.parametrize(("cells", "expected"), [(100, 0.30), (400, 0.81)])
def test_the_power_is_that_of_fishers_test(cells, expected):
    """Against simulation: ten points apart, where shares are hardest to tell apart."""
    (one, *_) = compare(found({"neutrophil": cells}), {"neutrophil": cells})
    assert one.power == pytest.approx(expected, abs=0.01)
    rng = np.random.default_rng(0)
    drawn = zip(rng.binomial(cells, 0.5, 300), rng.binomial(cells, 0.6, 300), strict=True)
    seen = [fisher(int(a), cells, int(b), cells) < 0.05 for a, b in drawn]
    assert one.power == pytest.approx(np.mean(seen), abs=0.08)


def table(folder, text):
    path = folder / "counts.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_long_and_wide_tables_say_the_same(tmp_path):
    long = read_manual(table(tmp_path, "slide_id,label,count\ns 1,Neut,60\ns 1,lymphocytes,40\ns 2,EOS,3\n"))
    wide = read_manual(table(tmp_path, "slide_id,Neut,lymphocytes,EOS\ns 1,60,40,\ns 2,,,3\n"), FIVE_TYPES)
    assert long == {"s 1": {"neutrophil": 60, "lymphocyte": 40}, "s 2": {"eosinophil": 3}}
    assert {slide: {name: n for name, n in counts.items() if n} for slide, counts in wide.items()} == long


def test_types_that_the_model_lacks_are_kept(tmp_path):
    path = table(tmp_path, "slide_id,neutrophil,lymphoblast,smudge cells\ns,56,7,2\n")
    assert read_manual(path, FIVE_TYPES) == {"s": {"neutrophil": 56, "blast": 7, "smudge cell": 2}}


def test_names_of_one_type_are_summed(tmp_path):
    path = table(tmp_path, "slide_id,band,neutrophil,monocyte,unidentified\ns,4,56,7,2\n")
    assert read_manual(path, FIVE_TYPES) == {"s": {"neutrophil": 60, "monocyte": 7, UNIDENTIFIED: 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide_id,label,count\ns,neut,6\ns,martian,4\n", r"row 2 \(slide 's'\): type 'martian' is in no class"),
        ("slide_id,label,count\ns,neut,-6\n", r"row 1 .*neut is '-6'; give a whole number from 0 to"),
        ("slide_id,label,count\ns,neut,6.5\n", r"row 1 .*neut is '6\.5'; give a whole number"),
        ("slide_id,label,count\ns,neut,\n", r"row 1 .*neut is ''; give a whole number"),
        ("slide_id,label,count\ns,neut,²\n", r"give a whole number"),
        ("slide_id,label,count\ns,neut,6\nt,neut,6\ns,Neut,7\n", r"row 3 .*'neut' was counted in an earlier row"),
        ("slide_id,neut,eos\ns,6,4\ns,6,4\n", r"row 2 .*was counted in an earlier row too: keep one"),
        ("slide_id,neut,blats\ns,6,4\n", r"row 1 .*type 'blats' is in no class; known are band neutrophil, basophil"),
        ("slide_id,neut\n,6\n", r"row 1: slide_id is empty"),
        ("slide_id\ns\n", r"neither the columns label and count nor one column per type"),
        ("slide,neut\ns,6\n", r"lacks column slide_id"),
    ],
)
def test_errors_name_table_row_and_value(tmp_path, text, message):
    with pytest.raises(InputError, match=rf"counts\.csv.*{message}"):
        read_manual(table(tmp_path, text), FIVE_TYPES)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(MissingInputError, match=r"counts\.csv"):
        read_manual(tmp_path / "counts.csv")


def test_a_written_comparison_is_read_back(tmp_path):
    agreements = compare(from_counts(TYPICAL | {"blast": 3}, WBC6.classes), {"neutrophil": 80, "lymphocyte": 110})
    path = write_agreements(tmp_path / "manual.json", agreements, "slide-7", LINEAGE)
    assert read_agreements(path) == agreements
    assert read_agreements(path) != tuple(replace(one, p_value=0.5) for one in agreements)
    assert [entry.name for entry in tmp_path.iterdir()] == ["manual.json"]


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"types": [{"label": 1}]}', '{"types": [1]}'])
def test_damaged_comparisons_are_named(tmp_path, content):
    path = tmp_path / "manual.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"manual\.json: not a comparison"):
        read_agreements(path)
