"""DICOM instances of a slide's results, made with highdicom (extra `dicom`): annotations and a structured report.

Types are coded privately, since DICOM has no codes for them; their percentages have LOINC codes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

import pyarrow as pa
import pyarrow.compute as pc
import shapely
from highdicom import AlgorithmIdentificationSequence, sr
from highdicom.ann import AnnotationGroup, Measurements, MicroscopyBulkSimpleAnnotations
from highdicom.color import CIELabColor
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from sgcldff.core.code import VERSION
from sgcldff.core.records import Lineage
from sgcldff.core.wording import PURPOSE
from sgcldff.counting.differential import Differential
from sgcldff.inference.outputs import colour_of

NAMESPACE = UUID("7c0f6d0e-9f5e-5b7e-8a43-1d1f6f0c2b90")
SCHEME = "99SGCLDFF"
"""Coding scheme of our own."""
PER_100 = Code("/100{WBCs}", "UCUM", "per 100 white cells")
ANNOTATION_SERIES, REPORT_SERIES = 9001, 9002
"""Numbers of series in the slide's study."""


@dataclass(frozen=True)
class Results:
    """What the instances say of a slide."""

    source: Dataset
    """Header of the slide's finest level."""
    lineage: Lineage
    key: str
    """Digest of the results: UIDs are drawn from it, so that the same results keep theirs."""

    def uid(self, name: str) -> str:
        """Return the UID of an item of the results."""
        return f"2.25.{uuid5(NAMESPACE, f'{self.key}/{name}').int}"

    def annotations(self, cells: pa.Table, labels: pa.ChunkedArray, reviewed: pa.ChunkedArray) -> Dataset:
        """Make Microscopy Bulk Simple Annotations: the cells of each type are a group of polygons.

        Parameters
        ----------
        cells
            The table of cells.
        labels
            Type of each, by people where they saw it.
        reviewed
            Whether people saw it.
        """
        lineage = self.lineage
        family = codes.DCM.ArtificialIntelligence
        algorithm = AlgorithmIdentificationSequence(lineage.model_name, family, lineage.model_version, source="sgcldff")
        groups = []
        for number, label in enumerate(sorted(pc.unique(labels).to_pylist()), start=1):
            own = pc.equal(labels, label)
            rows, seen = cells.filter(own), pc.any(reviewed.filter(own)).as_py()
            confidence, area = (rows[name].to_numpy() for name in ("confidence", "area_um2"))
            outlines = shapely.from_wkb(rows["outline"].to_pylist())
            group = AnnotationGroup(
                number=number,
                uid=self.uid(f"group {label}"),
                label=label,
                annotated_property_category=codes.SCT.AnatomicalStructure,
                annotated_property_type=_code(label),
                graphic_type="POLYGON",
                graphic_data=[shapely.get_coordinates(one.exterior)[:-1] for one in outlines],  # DICOM closes them
                algorithm_type="SEMIAUTOMATIC" if seen else "AUTOMATIC",
                algorithm_identification=algorithm,
                measurements=[
                    Measurements(_code("confidence"), confidence, codes.UCUM.NoUnits),
                    Measurements(codes.SCT.Area, area, codes.UCUM.SquareMicrometer),
                ],
                display_color=CIELabColor.from_rgb(*colour_of(label)),
            )
            groups.append(group)
        return MicroscopyBulkSimpleAnnotations(
            source_images=[self.source],
            annotation_coordinate_type="2D",
            annotation_groups=groups,
            series_instance_uid=self.uid("annotation series"),
            series_number=ANNOTATION_SERIES,
            sop_instance_uid=self.uid("annotations"),
            instance_number=1,
            manufacturer="sgcldff",
            manufacturer_model_name="sgcldff",
            software_versions=VERSION,
            device_serial_number="0",
            content_label="WHITE_CELLS",
            content_description=PURPOSE,
        )

    def report(self, found: Differential, loinc: Mapping[str, str], panel: str, *, final: bool) -> Dataset:
        """Make a Comprehensive 3D SR of a measurement report (TID 1500), with a group for each type and for all cells.

        Parameters
        ----------
        loinc
            Type -> LOINC code of its percentage.
        panel
            LOINC code of a differential.
        """
        whole = {"counted": found.counted, "unidentified": found.rejected, "outside the usable area": found.excluded}
        groups = [self._group("white cells", [_cells(name, count) for name, count in whole.items()])]
        for share in found.shares:
            ends = {"low end": share.low, "high end": share.high}
            percents = [_percent(_share(share.label, loinc), share.share)]
            percents += [_percent(_code(f"{name} of the interval"), end) for name, end in ends.items()]
            groups.append(self._group(share.label, [_cells("counted", share.count), *percents]))
        for one in found.beside:
            ratio = [] if one.per_100 is None else [sr.Measurement(_share(one.label, loinc), one.per_100, PER_100)]
            groups.append(self._group(one.label, [_cells("counted", one.count), *ratio]))
        device = sr.DeviceObserverIdentifyingAttributes(self.uid("device"), "sgcldff", "sgcldff", f"sgcldff {VERSION}")
        context = sr.ObservationContext(sr.ObserverContext(codes.DCM.Device, device))
        procedure = CodedConcept(panel, "LN", "Differential count of white blood cells")
        content = sr.MeasurementReport(context, procedure, groups, referenced_images=[self.source])
        return sr.Comprehensive3DSR(
            evidence=[self.source],
            content=content[0],
            series_instance_uid=self.uid("report series"),
            series_number=REPORT_SERIES,
            sop_instance_uid=self.uid("report"),
            instance_number=1,
            manufacturer="sgcldff",
            is_complete=True,
            is_final=final,
        )

    def _group(self, name: str, measurements: Sequence[sr.Measurement]) -> sr.MeasurementsAndQualitativeEvaluations:
        tracked = sr.TrackingIdentifier(self.uid(f"measurements {name}"), name)
        return sr.MeasurementsAndQualitativeEvaluations(tracked, finding_type=_code(name), measurements=measurements)


def _code(meaning: str) -> CodedConcept:
    return CodedConcept(meaning.upper(), SCHEME, meaning)


def _share(label: str, loinc: Mapping[str, str]) -> CodedConcept:
    meaning = f"{label} per 100 white cells"
    return CodedConcept(loinc[label], "LN", meaning) if label in loinc else _code(meaning)


def _cells(name: str, count: int) -> sr.Measurement:
    return sr.Measurement(_code(name), count, Code("{cells}", "UCUM", "cells"))


def _percent(name: CodedConcept, share: float) -> sr.Measurement:
    return sr.Measurement(name, round(100 * share, 2), codes.UCUM.Percent)
