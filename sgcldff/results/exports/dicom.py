"""DICOM for image archives: outlines of cells as bulk annotations, and the differential as a structured report.

Both belong to the study, patient and specimen of the slide, which has to be DICOM itself.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError
from sgcldff.core.json_file import read_json
from sgcldff.core.parquet_file import read_table
from sgcldff.core.records import Lineage
from sgcldff.core.settings import digest
from sgcldff.counting.differential import read_differential
from sgcldff.results.exports.base import Export
from sgcldff.results.exports.fhir import CODES, PANEL
from sgcldff.results.folder import CELLS, DIFFERENTIAL, READ_AGAIN, REVIEWED_CELLS, REVIEWED_DIFFERENTIAL
from sgcldff.results.standing import read_standing
from sgcldff.slides.dicom import finest_header
from sgcldff.slides.images import sha256_of

if TYPE_CHECKING:
    from pydicom import Dataset

SOURCE, ANNOTATIONS, SR_REPORT = "dicom/source.json", "dicom/annotations.dcm", "dicom/report.dcm"
RESULT_TABLES = (CELLS, DIFFERENTIAL, REVIEWED_CELLS, REVIEWED_DIFFERENTIAL)
PATIENT, STUDY = ("Name", "ID", "BirthDate", "Sex"), ("ID", "Date", "Time")
MAY_BE_EMPTY = ("AccessionNumber", *(f"Patient{name}" for name in PATIENT), *(f"Study{name}" for name in STUDY))
"""Attributes that every instance has; their values need not be known."""
IDENTITY = ("StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
REQUIRED = (*IDENTITY, "ContainerIdentifier", "SpecimenDescriptionSequence")
LEAVE_OUT = "leave dicom out of --also"


def prepare(folder: Path, slide: Path) -> None:
    """Keep the header of a slide, to which annotations and report refer.

    Raises
    ------
    InputError
        If it is no DICOM slide, its header is incomplete, or highdicom is not installed.
    """
    try:
        import sgcldff.results.dicom_instances  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError("--also dicom needs highdicom: pip install 'sgcldff[dicom]'") from error
    try:
        source = finest_header(slide)
    except InputError as error:
        raise InputError(f"{error}, to which DICOM annotations could refer: {LEAVE_OUT}, or convert it") from error
    if missing := [name for name in REQUIRED if name not in source]:
        raise InputError(f"{slide}: its header lacks {', '.join(missing)}: {LEAVE_OUT}, or convert it again")
    for name in MAY_BE_EMPTY:
        source.setdefault(name, "")
    with atomic_write(folder / SOURCE) as draft:
        draft.write_text(source.to_json(), encoding="utf-8")


def write(folder: Path) -> Path:
    """Write `dicom/annotations.dcm`, unless there is no cell, and `dicom/report.dcm`: after review where there was one.

    Instances of the same results stay as they are, since DICOM notes when they were made.

    Raises
    ------
    InputError, StoreError
        If results are missing or damaged.
    """
    from pydicom import Dataset

    from sgcldff.results.dicom_instances import Results

    standing, found = read_standing(folder), read_differential(folder / DIFFERENTIAL)
    cells, content = read_table(folder / CELLS, READ_AGAIN), read_json(folder / DIFFERENTIAL, READ_AGAIN)
    reviewed = pa.chunked_array([pa.nulls(len(cells), pa.string())])
    if standing.reviewed is not None:
        found = standing.reviewed.differential
        reviewed = read_table(folder / REVIEWED_CELLS, READ_AGAIN)["reviewed_label"]
    source = Dataset.from_json((folder / SOURCE).read_text(encoding="utf-8"))
    key = digest([sha256_of(folder / name) for name in RESULT_TABLES if (folder / name).exists()])
    results = Results(source, Lineage(**content["lineage"]), key)
    if len(cells):
        labels = pc.coalesce(reviewed, cells["label"])
        _save(results.annotations(cells, labels, pc.is_valid(reviewed)), folder / ANNOTATIONS)
    _save(results.report(found, CODES, PANEL, final=bool(standing.signatures)), folder / SR_REPORT)
    return folder / SR_REPORT


def _save(instance: "Dataset", path: Path) -> None:
    from pydicom import dcmread

    if path.exists() and dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID == instance.SOPInstanceUID:
        return
    with atomic_write(path) as draft:
        instance.save_as(draft, enforce_file_format=True)


EXPORT = Export(SR_REPORT, write, prepare)
