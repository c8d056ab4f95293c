"""`sgcldff validate`, as a person runs it."""

import json

from tests.sgcldff.results.studies import confused, made_study, write_study

REFERENCE = '[[interval]]\ntype = "neutrophil"\nunit = "%"\nlow = 45\nhigh = 75\n'


def test_a_study_is_filed_and_slides_without_results_are_named(run, tmp_path):
    counts, lab = write_study(tmp_path, made_study(12, 4, confused(0.9, 0.0))), tmp_path / "lab.toml"
    lab.write_text(REFERENCE)
    called = ("validate", tmp_path / "results", "--counts", counts, "--reference", lab, "-o", tmp_path / "study")
    ran = run(*called)
    assert (ran.code, "12 specimens compared." in ran.out) == (0, True)
    told = json.loads((tmp_path / "study" / "validation.json").read_text())
    assert (told["reference"], [one["label"] for one in told["abnormal"]]) == ("lab.toml", ["any type", "neutrophil"])
    assert told["types"][0]["differences"]["bias"]["high"] < 0
    assert told["flags"][0].startswith(
        "the model differs from the readers on average, in percentage points: neutrophil -"
    )
    counts.write_text(counts.read_text() + "gone,Anna,100,0,0,80,20\ngone,Bela,100,0,0,80,20\n")
    ran = run(*called)
    assert ran.code == 3
    assert "counts.csv: 1 slide left out: gone: no results in" in ran.line
    assert "slides left out: gone" in (tmp_path / "study" / "validation.html").read_text()
