"""FHIR for laboratory systems: a Bundle of one DiagnosticReport and one Observation per type (valid as R4B and R5).

Types have LOINC codes where LOINC has one that names no method. The report is final once a person has signed it, and
preliminary until then. Patient and specimen are left out: sgcldff does not know them, and the laboratory adds them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from sgcldff.core.atomic import atomic_write
from sgcldff.core.json_file import read_json
from sgcldff.core.labels import (
    BAND,
    BASOPHIL,
    BLAST,
    EOSINOPHIL,
    ERYTHROBLAST,
    LYMPHOCYTE,
    METAMYELOCYTE,
    MONOCYTE,
    MYELOCYTE,
    NEUTROPHIL,
    PROMYELOCYTE,
)
from sgcldff.core.wording import PURPOSE, counted
from sgcldff.counting.differential import ClassShare, CountBeside, Differential, read_differential
from sgcldff.results.exports.base import Export
from sgcldff.results.folder import DIFFERENTIAL, READ_AGAIN
from sgcldff.results.standing import Standing, read_standing

FILE = "report.fhir.json"
NAMESPACE = UUID("a1c7c0de-5c0b-5f52-9d7b-0c5b1de0f41a")
"""Ids are drawn from the slide and what was counted on it, so that the same results keep theirs."""
PANEL = "69738-3"
"""LOINC code of a differential by any method."""
CODES: Mapping[str, str] = {
    NEUTROPHIL: "26511-6",
    BAND: "26508-2",
    LYMPHOCYTE: "26478-8",
    MONOCYTE: "26485-3",
    EOSINOPHIL: "26450-7",
    BASOPHIL: "30180-4",
    METAMYELOCYTE: "28541-1",
    MYELOCYTE: "26498-6",
    PROMYELOCYTE: "26524-9",
    BLAST: "26446-5",
    ERYTHROBLAST: "19048-8",
}
"""Type -> LOINC code of its percentage, or of its number per 100 white cells, in blood by any method."""
LABORATORY = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}

Resource = dict[str, Any]


def write(folder: Path) -> Path:
    """Write `report.fhir.json` from a slide's differential: after review where it was reviewed.

    Raises
    ------
    InputError, StoreError
        If the differential is missing or damaged.
    """
    content, standing = read_json(folder / DIFFERENTIAL, READ_AGAIN), read_standing(folder)
    machine = read_differential(folder / DIFFERENTIAL)
    found = machine if standing.reviewed is None else standing.reviewed.differential
    slide, status = str(content["slide_id"]), "final" if standing.signatures else "preliminary"
    key = f"{slide}/{content['lineage']['slide_sha256']}/{content['lineage']['model_digest']}"
    common: Resource = {"status": status, "category": [_concept(LABORATORY)]}
    observations = [*(_share(found, share) for share in found.shares), *(_beside(one) for one in found.beside)]
    ids = [uuid5(NAMESPACE, f"{key}/{at}").urn for at in range(1 + len(observations))]
    report = {
        "resourceType": "DiagnosticReport",
        "identifier": [{"value": slide}],
        **common,
        "code": _concept(_loinc(PANEL)) | {"text": "differential count of white blood cells"},
        "result": [{"reference": name} for name in ids[1:]],
        "conclusion": _conclusion(found, standing),
    }
    if standing.signatures:
        signature = standing.signatures[0]
        report |= {"performer": [{"display": signature.by}], "issued": signature.at}
    resources = [report, *({"resourceType": "Observation", **common, **one} for one in observations)]
    entries = [{"fullUrl": name, "resource": resource} for name, resource in zip(ids, resources, strict=True)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    with atomic_write(folder / FILE) as draft:
        draft.write_text(json.dumps(bundle, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder / FILE


def _share(found: Differential, share: ClassShare) -> Resource:
    ends = {"lower": share.low, "upper": share.high}
    parts = [_part(f"{name} end of the {found.confidence:.0%} interval", _percent(end)) for name, end in ends.items()]
    counted_cells = _part("cells counted", _cells(share.count))
    return {"code": _code(share.label), "valueQuantity": _percent(share.share), "component": [counted_cells, *parts]}


def _beside(one: CountBeside) -> Resource:
    counted_cells = {"code": _code(one.label), "component": [_part("cells counted", _cells(one.count))]}
    if one.per_100 is None:
        return counted_cells
    return counted_cells | {"valueQuantity": _quantity(one.per_100, "per 100 white cells", "/100{WBCs}")}


def _code(label: str) -> Resource:
    return {"text": label} | (_concept(_loinc(CODES[label])) if label in CODES else {})


def _part(name: str, value: Resource) -> Resource:
    return {"code": {"text": name}, "valueQuantity": value}


def _percent(share: float) -> Resource:
    return _quantity(100 * share, "%", "%")


def _cells(count: int) -> Resource:
    return _quantity(count, "cells", "{cells}")


def _quantity(value: float, unit: str, code: str) -> Resource:
    return {"value": round(value, 2), "unit": unit, "system": "http://unitsofmeasure.org", "code": code}


def _loinc(code: str) -> Mapping[str, str]:
    return {"system": "http://loinc.org", "code": code}


def _concept(coding: Mapping[str, str]) -> Resource:
    return {"coding": [dict(coding)]}


def _conclusion(found: Differential, standing: Standing) -> str:
    signed = [f"signed by {standing.signatures[0]}"] if standing.signatures else ["nobody has signed this report"]
    counts = f"{counted(found.counted, 'cell')} counted, {counted(found.rejected, 'cell')} unidentified"
    return "; ".join([counts, *found.flags, *signed, PURPOSE])


EXPORT = Export(FILE, write)
