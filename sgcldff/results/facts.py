"""What a slide is, how it was read, and where its results come from: the last part of its report."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from sgcldff.core.records import Lineage, ScaleSource, SlideRef
from sgcldff.core.settings import InferSpec, flatten
from sgcldff.core.tally import Tally
from sgcldff.core.wording import counted, percent
from sgcldff.results.batch.summary import BARE_GLASS, USABLE

Facts = list[tuple[str, str]]
"""Names and values, in the order in which they are shown."""

SCALES: Mapping[ScaleSource, str] = {
    ScaleSource.FILE: "from the file's metadata",
    ScaleSource.USER: "stated by whoever read the slide",
    ScaleSource.RED_CELLS: "measured by the width of red cells",
}


def slide_facts(ref: SlideRef, lineage: Lineage, calibrated: str = "") -> Facts:
    """List what the slide is and where the results come from; the folder of the slide is not shown.

    Parameters
    ----------
    calibrated
        `ModelSpec.calibrated` of the model.
    """
    height, width = ref.shape
    wide, high = (f"{side * ref.mpp / 1e3:.2f}" for side in (width, height))
    turned = [("Stored", f"turned, orientation {ref.orientation}: all images and positions are upright")]
    return [
        ("Slide", ref.id),
        *(turned if ref.orientation != 1 else []),
        ("Size", f"{width:,} × {height:,} px at {ref.mpp:.4g} µm/px ({wide} × {high} mm)"),
        ("Scale", SCALES[ref.scale_from]),
        ("Slide digest (SHA-256)", lineage.slide_sha256),
        ("Model", f"{lineage.model_name}, version {lineage.model_version}"),
        ("Model digest", lineage.model_digest),
        *([("Calibration", calibrated)] if calibrated else []),
        ("Settings digest", lineage.spec_digest),
        ("Software version", lineage.code_version),
    ]


def run_facts(spec: InferSpec, tally: Tally, areas: Mapping[str, float], options: Mapping[str, str]) -> Facts:
    """List how a slide was read, and on which day (UTC) its results were written.

    Parameters
    ----------
    tally
        Work on the whole slide, or on the sample of it that was read.
    areas
        Area of the smear -> its part of the slide; empty where it is unknown.
    options
        What the run was asked for beside its settings.
    """
    now = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    whole = tally.tiles + tally.skipped
    share = f" of {whole:,} ({percent(tally.tiles / whole)}); the gate skipped the others" if tally.skipped else ""
    smear = {name: part for name, part in areas.items() if part > 0}
    parts = ", ".join(f"{name.replace('_', ' ')} {percent(part)}" for name, part in smear.items())
    usable = sum(smear.get(name, 0.0) for name in USABLE) / max(1e-9, 1 - smear.get(BARE_GLASS, 0.0))
    settings = [
        f"{path} = {str(value).lower() if isinstance(value, bool) else value}"
        for path, value in flatten(asdict(spec)).items()
        if path.rpartition(".")[2] != "version"
    ]
    return [
        ("Results written", f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"),
        ("Read at full sharpness", f"{counted(tally.tiles, 'tile')}{share}"),
        *([("Areas", f"{parts}; {percent(usable)} of the smear is usable")] if smear else []),
        *options.items(),
        ("Settings", "; ".join(settings)),
    ]
