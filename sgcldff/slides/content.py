"""Files of slides: how they are recognised, their companion files, their names, and hashes of their content.

A slide may be one page or focal plane of a file; its address then ends with, for example, `#page=2`
(`sgcldff.slides.pixels.page_selection`).
"""

import hashlib
from pathlib import Path, PurePath

from sgcldff.slides.dicom import EXTENSION, series_files
from sgcldff.slides.images import sha256_of
from sgcldff.slides.pixels.page_selection import Plane, split_plane

ZARR_FILES = ("zarr.json", ".zgroup", ".zattrs")
"""Metadata files, of which a Zarr folder has at least one."""
SCANNERS = (".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu")
IMAGE_SUFFIXES = (".btf", ".tf8", ".tif", ".tiff", ".bmp", ".jpeg", ".jpg", ".png")
ZIPPED = (".zarr.zip", ".ozx")
"""Extensions of zipped OME-Zarr."""
SUFFIXES = frozenset((*SCANNERS, *IMAGE_SUFFIXES, *ZIPPED))
"""Extensions of the files in a folder that count as slides; lower case."""


def is_zarr(names: list[str]) -> bool:
    """Return whether a folder is a Zarr group or array, judging by the names of its files."""
    return any(name in names for name in ZARR_FILES)


def slide_id(path: PurePath) -> str:
    """Return a slide's id: its file name without extension ("a.b.ome.tif" -> "a.b"; "a.tif#page=2" -> "a-page2")."""
    return stem(path.name)


def stem(name: str) -> str:
    """Remove the extension, and ".ome" before it, from a file name; a page or focal plane is kept."""
    file, plane = split_plane(name)
    bare = (file[: -len(extension(file))] if extension(file) else file).removesuffix(".ome")
    return bare + "".join(f"-{part}" for part in str(plane).strip("#").replace("=", "").split("&") if part)


def extension(name: str) -> str:
    """Return a file name's extension, as written; a name whose only dot is the first character has none."""
    file, _ = split_plane(name)
    zipped = next((ending for ending in ZIPPED if file.lower().endswith(ending) and len(file) > len(ending)), "")
    head, dot, last = file.rpartition(".")
    return file[-len(zipped) :] if zipped else dot + last if head and last else ""


def plane_sha256(sha256: str, plane: Plane) -> str:
    """Return the hash of a slide from that of its file, which differs for each page and focal plane."""
    return hashlib.sha256(f"{sha256}{plane}".encode()).hexdigest() if str(plane) else sha256


def content_sha256(path: Path) -> str:
    """Hash the content of a slide: of a folder (OME-Zarr, or that of an .mrxs file) or a DICOM series, all files."""
    if path.suffix.lower() == ".mrxs" and path.with_suffix("").is_dir():
        return _joint_sha256([path, *_files(path.with_suffix(""))], path.parent)
    if path.suffix.lower() == EXTENSION and len(files := series_files(path)) > 1:
        return _joint_sha256(files, path.parent)
    return _joint_sha256(_files(path), path) if path.is_dir() else sha256_of(path)


def changed_at(path: Path) -> float:
    """Return the modification time of a slide's newest file; s since 1970 (UTC)."""
    folder = path.with_suffix("") if path.suffix.lower() == ".mrxs" else path
    series = series_files(path) if path.suffix.lower() == EXTENSION else [path]
    files = [*series, *(_files(folder) if folder.is_dir() else ())]
    return float(max(file.stat().st_mtime for file in files))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _joint_sha256(files: list[Path], root: Path) -> str:
    sha256 = hashlib.sha256()
    for file in files:
        sha256.update(f"{file.relative_to(root).as_posix()}\0{sha256_of(file)}\n".encode())
    return sha256.hexdigest()
