"""Checks that image files have not changed since they were ingested."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sgcldff.core.records import Sample
from sgcldff.slides.images import sha256_of


class FileCheck:
    """Finds samples whose image or mask is missing or changed.

    A file is hashed again only if its modification time or size changed.

    Parameters
    ----------
    samples
        Samples with the digests recorded by ingest; a file without a digest only has to exist.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = tuple(samples)
        self._hashed: dict[str, tuple[tuple[int, int], str]] = {}

    def faults(self) -> dict[int, str]:
        """Check all files: index of the sample -> reason, for samples that cannot be used."""
        reasons = {index: next(iter(self._faults(sample)), "") for index, sample in enumerate(self.samples)}
        return {index: reason for index, reason in reasons.items() if reason}

    def _faults(self, sample: Sample) -> Iterable[str]:
        for path, sha256 in ((sample.image, sample.sha256), (sample.mask, sample.mask_sha256)):
            if path is None:
                continue
            try:
                if self._digest(path) != sha256 and sha256:
                    yield f"{path}: was changed since it was prepared; run `sgcldff prepare` again"
            except OSError as error:
                yield f"{path}: cannot be read ({error.strerror or error}); restore it"

    def _digest(self, path: str) -> str:
        stat = Path(path).stat()
        state = (stat.st_size, stat.st_mtime_ns)
        known = self._hashed.get(path)
        if known is None or known[0] != state:
            self._hashed[path] = known = (state, sha256_of(path))
        return known[1]
