"""Summary of one slide for its batch, kept beside the slide's results so that it survives restarts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter

from sgcldff.core.errors import InputError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import require
from sgcldff.core.wording import PURPOSE
from sgcldff.counting.agreement import Agreement, read_agreements
from sgcldff.counting.differential import ClassShare, Differential, read_differential
from sgcldff.inference.gate import Area
from sgcldff.results.folder import DIFFERENTIAL, MANUAL, READ_AGAIN
from sgcldff.results.standing import Standing, read_standing

SUMMARY = "summary.json"
"""Name of the file in a slide's folder that `write_summary` writes."""

USABLE = frozenset(area.name.lower() for area in Area if area.usable)
BARE_GLASS = Area.BACKGROUND.name.lower()


@dataclass(frozen=True)
class SlideSummary:
    """Summary of one slide."""

    slide_id: str
    file: str
    """Name of the slide's file, without the folder in which it lies."""
    reason: str = ""
    """Why the slide was skipped; empty where it was read."""
    found: Differential | None = None
    """None where the slide was skipped."""
    areas: Mapping[str, float] = field(default_factory=dict)
    """Area of the smear ("monolayer", "background", ...) -> its part of the slide; together 1, or none at all."""
    tiles: int = 0
    """Tiles that were read at full resolution."""
    skipped: int = 0
    """Tiles that the gate left out."""
    seconds: float = 0.0
    """From opening the slide to its last file, s."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Where the time of the last run went, by stage, s, summed over workers; `sgcldff.core.tally.STAGES` names them."""
    model: ModelRef | None = None
    agreements: tuple[Agreement, ...] = ()
    """The comparison with a manual count, where there is one."""
    standing: Standing = field(default_factory=Standing)
    """What people made of the results."""

    @classmethod
    def read(cls, folder: str | Path) -> "SlideSummary":
        """Read what a slide's folder holds: summary.json, and what was counted, compared, and made of it by people.

        Raises
        ------
        InputError
            If one of the files is damaged, or there is no summary.
        """
        folder = Path(folder)
        summary = _read_summary(folder / SUMMARY)
        if summary.reason:
            return summary
        found = read_differential(folder / DIFFERENTIAL)
        manual = folder / MANUAL
        agreements = read_agreements(manual) if manual.exists() else ()
        return replace(summary, found=found, agreements=agreements, standing=read_standing(folder))

    @property
    def shares(self) -> tuple[ClassShare, ...]:
        """Of the differential; none where the slide was skipped."""
        return () if self.found is None else self.found.shares

    @property
    def reviewed(self) -> Differential | None:
        """Counts after review; None where nobody reviewed the slide."""
        return None if self.standing.reviewed is None else self.standing.reviewed.differential

    @property
    def counted(self) -> int:
        """Cells that the shares are shares of."""
        return 0 if self.found is None else self.found.counted

    @property
    def usable(self) -> float | None:
        """Usable part of the smear, background left out, 0 to 1; None where it is unknown."""
        smear = sum(share for name, share in self.areas.items() if name != BARE_GLASS)
        if not self.areas:
            return None
        return sum(self.areas.get(name, 0.0) for name in USABLE) / smear if smear > 0 else 0.0


STORED = ("slide_id", "file", "reason", "areas", "tiles", "skipped", "seconds", "stages")
"""Fields that are kept in `SUMMARY` as they are."""


def write_summary(folder: str | Path, summary: SlideSummary) -> Path:
    """Write `summary.json` beside the slide's other results; the file appears whole or not at all.

    Differential and comparison are not repeated in it: `SlideSummary.read` takes them from their own files.
    """
    content: dict[str, object] = {name: getattr(summary, name) for name in STORED} | {"version": 1, "purpose": PURPOSE}
    content["areas"] = dict(summary.areas)
    content["model"] = None if summary.model is None else asdict(summary.model)
    return write_json(Path(folder) / SUMMARY, content)


def _read_summary(path: Path) -> SlideSummary:
    try:
        content = read_json(path, READ_AGAIN)
        require(
            content["version"] == 1,
            f"version is {content['version']}, not 1: update the software or {READ_AGAIN}",
        )
        return TypeAdapter(SlideSummary).validate_python(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a slide's summary ({error}): {READ_AGAIN}") from error


def cells_by_type(slides: Iterable[SlideSummary]) -> Counter[str]:
    """Add up the cells of each type over slides."""
    cells = Counter[str]()
    for slide in slides:
        cells.update({share.label: share.count for share in slide.shares})
    return cells


def classes_of(slides: Iterable[SlideSummary]) -> tuple[str, ...]:
    """Name the types of all slides, in the order in which they first come."""
    return tuple(dict.fromkeys(share.label for slide in slides for share in slide.shares))
