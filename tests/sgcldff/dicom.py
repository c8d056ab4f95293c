"""Slides as scanners write them in DICOM: a series of tiled levels, one file each."""

import io
from itertools import product

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage

TILE_PX = 128
STUDY = "1.2.826.0.1.3680043.8.498.1"


def write_level(path, image, mpp, number, series=1, flavor="VOLUME", kind=("ORIGINAL", "NONE")):
    """Write an image as one file of the series: TILED_FULL, JPEG without losses of colour, quality 95."""
    height, width = image.shape[:2]
    rows, columns = -(-height // TILE_PX), -(-width // TILE_PX)
    padded = np.pad(image, ((0, rows * TILE_PX - height), (0, columns * TILE_PX - width), (0, 0)), "edge")
    frames = []
    for y, x in product(range(rows), range(columns)):
        tile = padded[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX]
        out = io.BytesIO()
        Image.fromarray(tile).save(out, "JPEG", quality=95, subsampling=0, keep_rgb=True)
        frames.append(out.getvalue())
    written = Dataset()
    written.file_meta = FileMetaDataset()
    written.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    written.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    written.SOPInstanceUID = f"{STUDY}.{series}.{number}"
    written.file_meta.MediaStorageSOPClassUID = written.SOPClassUID
    written.file_meta.MediaStorageSOPInstanceUID = written.SOPInstanceUID
    written.StudyInstanceUID, written.SeriesInstanceUID = STUDY, f"{STUDY}.{series}"
    written.FrameOfReferenceUID = f"{STUDY}.9"
    written.PatientName, written.PatientID, written.PatientBirthDate, written.PatientSex = "Doe^Jane", "P1", "", "F"
    written.AccessionNumber, written.StudyID, written.StudyDate, written.StudyTime = "A1", "S1", "20260102", "101500"
    written.ReferringPhysicianName, written.Modality, written.Manufacturer = "", "SM", "Scanner maker"
    written.SeriesNumber, written.InstanceNumber = series, number
    written.ContentDate, written.ContentTime, written.AcquisitionDateTime = "20260102", "101500", "20260102101500"
    written.ImageType = [kind[0], "PRIMARY", flavor, kind[1]]
    written.ContainerIdentifier, written.SpecimenDescriptionSequence = "smear-1", [specimen()]
    written.ContainerTypeCodeSequence, written.IssuerOfTheContainerIdentifierSequence = (
        [code("433466003", "SCT", "Microscope slide")],
        [],
    )
    written.DimensionOrganizationType = "TILED_FULL"
    written.VolumetricProperties, written.BurnedInAnnotation, written.LossyImageCompression = "VOLUME", "NO", "01"
    written.SamplesPerPixel, written.PhotometricInterpretation, written.PlanarConfiguration = 3, "RGB", 0
    written.BitsAllocated, written.BitsStored, written.HighBit, written.PixelRepresentation = 8, 8, 7, 0
    written.Rows = written.Columns = TILE_PX
    written.NumberOfFrames = len(frames)
    written.TotalPixelMatrixRows, written.TotalPixelMatrixColumns = height, width
    written.TotalPixelMatrixFocalPlanes, written.NumberOfOpticalPaths = 1, 1
    written.ImagedVolumeWidth, written.ImagedVolumeHeight, written.ImagedVolumeDepth = (
        width * mpp / 1e3,
        height * mpp / 1e3,
        0.001,
    )
    written.ImageOrientationSlide = [0, 1, 0, 1, 0, 0]
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1e3, mpp / 1e3], 0.001
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    written.SharedFunctionalGroupsSequence = [shared]
    path_ = Dataset()
    path_.OpticalPathIdentifier = "1"
    path_.IlluminationTypeCodeSequence = [code("111744", "DCM", "Brightfield illumination")]
    written.OpticalPathSequence = [path_]
    written.PixelData = encapsulate(frames)
    written["PixelData"].is_undefined_length = True
    written.save_as(path, enforce_file_format=True)
    return path


def code(value, scheme, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def specimen():
    item = Dataset()
    item.SpecimenIdentifier, item.SpecimenUID = "blood-1", f"{STUDY}.8"
    item.SpecimenPreparationSequence, item.IssuerOfTheSpecimenIdentifierSequence = [], []
    return item


def write_series(folder, image, mpp, series=1, stem="level"):
    """Write an image and its halves, the coarsest first, and a label."""
    folder.mkdir(parents=True, exist_ok=True)
    half = np.asarray(Image.fromarray(image).reduce(2))
    write_level(folder / f"{stem}-1.dcm", half, 2 * mpp, 1, series, kind=("DERIVED", "RESAMPLED"))
    write_level(folder / f"{stem}-2.dcm", image, mpp, 2, series)
    write_level(folder / f"{stem}-0.dcm", image[:TILE_PX, :TILE_PX], mpp, 3, series, "LABEL")
    return folder
