"""What belongs to a slide: how it is told from other files, its companions, its name, the hash of its content.

A slide may be one page or focal plane of a file: its address then ends with `#page=2`, say
(`sgcldff.slides.pixels.page_selection`).
"""

import hashlib
from pathlib import Path, PurePath

from sgcldff.slides.images import sha256_of
from sgcldff.slides.pixels.page_selection import Plane, split_plane

ZARR_FILES = ("zarr.json", ".zgroup", ".zattrs")
"""Metadata of which a Zarr folder has at least one."""
SCANNERS = (".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu")
IMAGES = (".btf", ".tf8", ".tif", ".tiff", ".bmp", ".jpeg", ".jpg", ".png")
ZIPPED = (".zarr.zip", ".ozx")
"""Extensions of OME-Zarr in one file."""
SUFFIXES = frozenset((*SCANNERS, *IMAGES, *ZIPPED))
"""Extensions of the files that are taken for slides where a folder was named; lower case."""


def is_zarr(names: list[str]) -> bool:
    """Tell a Zarr folder by the names of its files."""
    return any(name in names for name in ZARR_FILES)


def slide_id(path: PurePath) -> str:
    """Name a slide by its file, without extension ("a.b.ome.tif" -> "a.b"; "a.tif#page=2" -> "a-page2")."""
    return stem(path.name)


def stem(name: str) -> str:
    """Take the extension off a file's name, and the ".ome" before it; a page or focal plane stays."""
    file, plane = split_plane(name)
    bare = (file[: -len(extension(file))] if extension(file) else file).removesuffix(".ome")
    return bare + "".join(f"-{part}" for part in str(plane).strip("#").replace("=", "").split("&") if part)


def extension(name: str) -> str:
    """Return a file name's extension, as it is written; what begins with its only point has none."""
    file, _ = split_plane(name)
    zipped = next((ending for ending in ZIPPED if file.lower().endswith(ending) and len(file) > len(ending)), "")
    head, point, last = file.rpartition(".")
    return file[-len(zipped) :] if zipped else point + last if head and last else ""


def of_plane(sha256: str, plane: Plane) -> str:
    """Return the hash of a slide from that of its file: another one for each of its pages and focal planes."""
    return hashlib.sha256(f"{sha256}{plane}".encode()).hexdigest() if str(plane) else sha256


def content_sha256(path: Path) -> str:
    """Hash a slide's content; for a folder (OME-Zarr, or the one beside a .mrxs file) its files in sorted order."""
    if path.suffix.lower() == ".mrxs" and path.with_suffix("").is_dir():
        return _joined([path, *_files(path.with_suffix(""))], path.parent)
    return _joined(_files(path), path) if path.is_dir() else sha256_of(path)


def changed_at(path: Path) -> float:
    """Tell when a slide's file, or the newest of its files, was changed; s since 1970 (UTC)."""
    folder = path.with_suffix("") if path.suffix.lower() == ".mrxs" else path
    files = [path, *(_files(folder) if folder.is_dir() else ())]
    return float(max(file.stat().st_mtime for file in files))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _joined(files: list[Path], root: Path) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(root).as_posix()}\0{sha256_of(file)}\n".encode())
    return total.hexdigest()
