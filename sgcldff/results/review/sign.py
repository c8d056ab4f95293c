"""Signatures: a named person answers for a slide's differential, of which a copy is kept that nothing changes later."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.core.json_file import write_json
from sgcldff.core.settings import digest
from sgcldff.results.batch import SlideSummary
from sgcldff.results.exports import update_exports
from sgcldff.results.folder import (
    CELLS,
    DIFFERENTIAL,
    REPORT,
    REVIEWED_CELLS,
    REVIEWED_DIFFERENTIAL,
    SIGNED,
    held,
)
from sgcldff.results.review.answers import reviewer_name
from sgcldff.results.slide_page import copy_report, update_report
from sgcldff.results.standing import SIGNED_STATUS, Signature, Standing, mark_signed, unsigned


def sign(folder: str | Path, by: str) -> Signature:
    """Sign a slide's results: the counts after review, or the model's own where nobody reviewed the slide.

    Differential, cells and report are copied into a folder of their own below `SIGNED`; the slide's own files say that
    they are signed until they change. Who has signed the same results before does not sign again.

    Parameters
    ----------
    by
        Name of the person, as reviewers write it.

    Raises
    ------
    InputError
        If the name is empty, the slide was skipped, or a file is damaged.
    """
    folder, name = Path(folder), reviewer_name(by)
    with held(folder):
        summary = SlideSummary.read(folder)
        standing = summary.standing
        if summary.reason:
            raise InputError(f"{folder}: this slide was skipped ({summary.reason}): mend the cause and read it again")
        if standing.damaged:
            raise InputError(f"{'; '.join(standing.damaged)}; nothing was signed")
        earlier = [one for one in standing.signatures if one.by.casefold() == name.casefold()]
        signature = earlier[0] if earlier else _keep(folder, name, standing)
        mark_signed(folder)
        update_report(folder)
        update_exports(folder)
        if (folder / REPORT).exists() and not (folder / signature.place / REPORT).exists():
            copy_report(folder, signature.place)
    return signature


def _keep(folder: Path, by: str, standing: Standing) -> Signature:
    """Copy cells, then the differential with its signature: a folder without the latter is no signature."""
    cells, differential = (REVIEWED_CELLS, REVIEWED_DIFFERENTIAL) if standing.reviewed else (CELLS, DIFFERENTIAL)
    content, now = unsigned(folder / differential), datetime.now(UTC).replace(microsecond=0)
    lineage, reviewed = content["lineage"], standing.reviewed
    signature = Signature(
        by=by,
        at=now.isoformat(),
        model_name=lineage["model_name"],
        model_version=lineage["model_version"],
        model_digest=lineage["model_digest"],
        counted=content["counted"],
        reviewed=reviewed.outcomes.reviewed if reviewed else 0,
        reviewers=reviewed.reviewers if reviewed else (),
        place=f"{SIGNED}/{now:%Y%m%dT%H%M%SZ}-{digest((by, content))[:8]}",
    )
    _copy(folder / cells, folder / signature.place / cells)
    signed = content | {"status": SIGNED_STATUS, "signature": signature.to_dict()}
    write_json(folder / signature.place / DIFFERENTIAL, signed)
    return signature


def _copy(source: Path, target: Path) -> None:
    remedy = "read the slide, or apply its reviews, again"
    with reading(source, "cannot be copied", remedy, missing=remedy), atomic_write(target) as partial:
        shutil.copyfile(source, partial)
