from dataclasses import replace

import pytest

from sgcldff.core.records import Lineage, ScaleSource, SlideRef
from sgcldff.core.settings import GateSpec, InferSpec
from sgcldff.core.tally import Tally
from sgcldff.results.facts import run_facts, slide_facts

REF = SlideRef("smear", "/home/somebody/smear.tiff", "ab" * 32, 0.25, (8000, 4000), 3)
LINEAGE = Lineage("ab" * 32, "sgcldff", "3", "cd" * 8, "ef" * 8, "0.1.0")


@pytest.mark.parametrize(
    ("source", "words"),
    [(ScaleSource.FILE, "metadata"), (ScaleSource.USER, "stated"), (ScaleSource.RED_CELLS, "red cells")],
)
def test_it_is_said_where_the_scale_comes_from(source, words):
    facts = dict(slide_facts(replace(REF, scale_from=source), LINEAGE))
    assert words in facts["Scale"]
    assert facts["Size"] == "4,000 × 8,000 px at 0.25 µm/px (1.00 × 2.00 mm)"


def test_it_is_said_how_much_was_read_and_when_and_with_which_settings(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    areas = {"monolayer": 0.3, "thick": 0.1, "background": 0.6, "feathered": 0.0}
    spec = InferSpec(gate=GateSpec(threshold=0.125), min_confidence=0.5)
    facts = dict(run_facts(spec, Tally(tiles=20, skipped=180), areas, {"Counted until": "monocyte to 0.05"}))
    assert facts["Results written"] == "2026-01-01"
    assert facts["Read at full sharpness"] == "20 tiles of 200 (10.0 %); the gate skipped the others"
    assert facts["Areas"] == "monolayer 30.0 %, thick 10.0 %, background 60.0 %; 75.0 % of the smear is usable"
    assert facts["Counted until"] == "monocyte to 0.05"
    settings = facts["Settings"].split("; ")
    assert {"gate.threshold = 0.125", "gate.enabled = true", "min_confidence = 0.5"} <= set(settings)
    assert not any("version" in one for one in settings)


def test_of_a_photograph_all_is_read_and_no_area_is_known():
    facts = dict(run_facts(InferSpec(), Tally(tiles=2), {}, {}))
    assert facts["Read at full sharpness"] == "2 tiles"
    assert "Areas" not in facts
