"""Results in formats of other systems."""

import json

import pytest
from fhir.resources.bundle import Bundle
from fhir.resources.R4B.bundle import Bundle as BundleR4

from sgcldff.core.errors import InputError
from sgcldff.core.records import Lineage
from sgcldff.counting.differential import from_parts, read_differential, write_differential
from sgcldff.results.exports import FORMATS, export_named, require_exports, update_exports
from sgcldff.results.folder import DIFFERENTIAL

LINEAGE = Lineage("5" * 64, "sgcldff", "3", "d" * 16, "s" * 16, "1.0")
FHIR = export_named("fhir")
CLASSES = ("neutrophil", "lymphocyte", "smudge cell", "erythroblast")


@pytest.fixture
def folder(tmp_path):
    found = from_parts([{"neutrophil": 60, "lymphocyte": 38, "erythroblast": 4}], CLASSES)
    write_differential(tmp_path / DIFFERENTIAL, found, "smear-1", LINEAGE)
    return tmp_path


def resources(folder):
    return [entry["resource"] for entry in json.loads((folder / FHIR.file).read_text())["entry"]]


@pytest.mark.parametrize("bundle", [Bundle, BundleR4])
def test_fhir_is_valid_and_has_an_observation_for_every_type(folder, bundle):
    text = FHIR.write(folder).read_text()
    report, *observations = [entry.resource for entry in bundle.model_validate_json(text).entry]
    found = read_differential(folder / DIFFERENTIAL)
    assert [one.code.text for one in observations] == [one.label for one in (*found.shares, *found.beside)]
    assert [result.reference for result in report.result] == [
        entry["fullUrl"] for entry in json.loads(text)["entry"][1:]
    ]
    assert {one.status for one in (report, *observations)} == {"preliminary"}


def test_fhir_has_the_figures_of_the_differential(folder):
    FHIR.write(folder)
    by_type = {one["code"]["text"]: one for one in resources(folder)[1:]}
    found = read_differential(folder / DIFFERENTIAL)
    for share in found.shares:
        told = by_type[share.label]
        count, low, high = (part["valueQuantity"]["value"] for part in told["component"])
        assert (told["valueQuantity"]["value"], told["valueQuantity"]["code"]) == (round(100 * share.share, 2), "%")
        assert (count, low, high) == (share.count, round(100 * share.low, 2), round(100 * share.high, 2))
    assert by_type["neutrophil"]["code"]["coding"] == [{"system": "http://loinc.org", "code": "26511-6"}]
    assert "coding" not in by_type["smudge cell"]["code"]
    assert by_type["erythroblast"]["valueQuantity"]["value"] == pytest.approx(100 * 4 / 98, abs=0.01)


def test_only_what_was_asked_for_is_brought_up_to_date(folder):
    update_exports(folder)
    assert [path.name for path in folder.iterdir()] == [DIFFERENTIAL]
    before = FHIR.write(folder).read_bytes()
    (folder / FHIR.file).write_text("old")
    update_exports(folder)
    assert (folder / FHIR.file).read_bytes() == before


def test_unknown_formats_are_named():
    with pytest.raises(InputError, match=f"'hl7' is unknown: name one or more of {', '.join(FORMATS)}"):
        require_exports(["fhir", "hl7"])
