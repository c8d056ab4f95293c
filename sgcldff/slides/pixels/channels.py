"""Channels by their names: which is red, green, blue and alpha."""

import re
from collections import Counter
from collections.abc import Sequence

COLOURS = ("red", "green", "blue")
ALPHA = "alpha"
WORDS = {
    **{name: name for name in (*COLOURS, ALPHA)},
    "r": "red",
    "g": "green",
    "b": "blue",
    "a": ALPHA,
    "opacity": ALPHA,
}
BESIDE = ("channel", "ch", "c", "brightfield", "bright", "field", "bf", "tl", "camera")
"""Words that may stand beside a colour without changing what it means, as in "Channel 0: Red"; "Texas Red" is a dye."""
SILENT = re.compile(r"(channel|chan|ch|c|image|series|sample|rgb|\d|[\s:;/_.,#()-])*", re.IGNORECASE)
"""Names that say nothing: "", "Channel 0", "C:1", "Channel:0:2"."""
SHOWN_AS = {"ff0000": "red", "00ff00": "green", "0000ff": "blue"}
"""Colours in which channels are to be shown, RRGGBB."""
DYES = re.compile(
    r"\b(dapi|hoechst|fitc|tritc|cy\s?\d(\.\d)?|[ygrbc]fp|mcherry|texas|alexa|rhodamine|fluor\w*|dic|phase)\b",
    re.IGNORECASE,
)
"""Words for what is no brightfield picture."""

Order = tuple[tuple[int, int, int], int | None]
"""Indices of red, green and blue, and of alpha where there is one."""


def rgb_order(names: Sequence[str], colours: Sequence[str] = ()) -> Order | None:
    """Find red, green, blue and perhaps alpha among channels; None if these are no RGB.

    Parameters
    ----------
    names
        As the file gives them, "" where it does not. Three that say nothing are taken for red, green, blue.
    colours
        RRGGBB in which the channels are to be shown; they decide where the names say nothing.
    """
    found = [_colour(name) for name in names]
    if all(SILENT.fullmatch(name) for name in names):
        shown = [SHOWN_AS.get(colour.lower().lstrip("#")) for colour in colours]
        found = shown if Counter(shown) == Counter(COLOURS) else list(COLOURS)
    if len(found) != len(names) or Counter(found) not in (Counter(COLOURS), Counter((*COLOURS, ALPHA))):
        return None
    red, green, blue = (found.index(colour) for colour in COLOURS)
    return (red, green, blue), found.index(ALPHA) if ALPHA in found else None


def is_fluorescent(*texts: str | None) -> bool:
    """Tell by what is said of a channel that it is no brightfield picture."""
    return any(DYES.search(text) for text in texts if text)


def _colour(name: str) -> str | None:
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in BESIDE]
    return WORDS.get(words[0]) if len(words) == 1 else None
