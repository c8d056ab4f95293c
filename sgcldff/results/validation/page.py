"""A study as one page that a laboratory can file, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sgcldff.core.atomic import atomic_write
from sgcldff.core.code import VERSION
from sgcldff.core.json_file import write_json
from sgcldff.core.wording import PURPOSE
from sgcldff.counting.method_comparison import POWER
from sgcldff.counting.reference_counts import white_cells
from sgcldff.counting.reference_intervals import ReferenceRow
from sgcldff.inference.outputs.colours import hex_of
from sgcldff.results.html import template
from sgcldff.results.validation.abnormal import ANY, ASSUMED, SHOWN, Detection, detections
from sgcldff.results.validation.by_type import TypeComparison, compare_types
from sgcldff.results.validation.plots import plots_of
from sgcldff.results.validation.study import Study, StudySpecimen

METHODS = {
    "reference": "cells of both readers together, of all slides of a specimen",
    "bias": "mean difference, model less reference, in percentage points; Student's interval",
    "limits": "limits of agreement (Bland and Altman 1999), with their intervals",
    "deming": "Deming regression, errors as the numbers of cells say; jackknife intervals (Linnet 1993)",
    "passing_bablok": "Passing-Bablok regression (1983)",
    "within": "specimens within Rümke's limits: the exact binomial 95 % interval of the reference share",
    "proportions": "exact binomial intervals (Clopper-Pearson)",
    "not_covered": "how slides, stain and patients were chosen; what readers and model get wrong alike",
}
"""How each figure was computed."""
LAYOUT = 2


def write_validation(
    folder: str | Path, study: Study, rows: Sequence[ReferenceRow] = (), reference: str = "", level: float = 0.95
) -> tuple[Path, Path]:
    """Write `validation.html` and `validation.json`; returns both paths.

    Parameters
    ----------
    rows
        The laboratory's reference intervals, which say which smears are abnormal; without any, nothing is said of that.
    reference
        Name of the file that they come from.
    level
        Of all intervals.
    """
    types, found = compare_types(study, level), detections(study, rows, level)
    flags = (*_bias_flags(types), *study.flags, *_abnormal_flags(found))
    content = {
        "model": asdict(study.model),
        "readers": list(study.readers),
        "reference": reference,
        "level": level,
        "flags": list(flags),
        "types": [asdict(one) for one in types],
        "abnormal": [asdict(one) for one in found],
        "cannot_tell": study.lacking,
        "specimens": [_specimen(one) for one in study.specimens],
        "left_out": list(study.left_out),
        "methods": METHODS | {"power_of_bias": POWER, "sensitivity_shown": SHOWN, "sensitivity_assumed": ASSUMED},
        "purpose": PURPOSE,
        "code_version": VERSION,
        "version": LAYOUT,
    }
    page = template("validation.html").render(
        study=study,
        flags=flags,
        types=[(one, hex_of(one.label), plots_of(one)) for one in types],
        abnormal=found,
        reference=reference,
        level=f"{100 * level:g} %",
        power=f"{100 * POWER:g} %",
        shown=f"{100 * SHOWN:g} %",
        assumed=f"{100 * ASSUMED:g} %",
        cells=_cells(study),
        code_version=VERSION,
    )
    html = Path(folder) / "validation.html"
    with atomic_write(html) as draft:
        draft.write_text(page, encoding="utf-8")
    return html, write_json(Path(folder) / "validation.json", content)


def _cells(study: Study) -> tuple[int, int]:
    """Count the white cells of all readers, and those of the model."""
    readers = sum(white_cells(one.reference.pooled) for one in study.specimens)
    return readers, sum(one.found.counted for one in study.specimens)


def _bias_flags(types: Sequence[TypeComparison]) -> list[str]:
    """Name the types of which the model finds more or fewer than the readers, beyond chance."""
    biases = [(one.label, one.differences.bias) for one in types]
    apart = [f"{label} {bias.value:+.1f}" for label, bias in biases if bias.low > 0 or bias.high < 0]
    return [f"the model differs from the readers on average, in percentage points: {', '.join(apart)}"] * bool(apart)


def _abnormal_flags(found: Sequence[Detection]) -> list[str]:
    if not found:
        return ["no reference interval in percent holds for these patients: sensitivity and specificity are not known"]
    smears = next(one.sensitivity.total for one in found if one.label == ANY)
    return [f"{smears} abnormal smears: CLSI H20-A2 asks for at least 100"] * (smears < 100)


def _specimen(one: StudySpecimen) -> dict[str, object]:
    pairs = zip(one.reference.readers, one.reference.counts, strict=True)
    return {
        "specimen": one.reference.specimen,
        "slides": list(one.reference.slides),
        "readers": {reader: dict(counts) for reader, counts in pairs},
        "model": one.found.counts,
    }
