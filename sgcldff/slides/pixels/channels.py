"""Identification of red, green, blue and alpha channels by their names."""

import re
from collections import Counter
from collections.abc import Sequence

PRIMARIES = ("red", "green", "blue")
ALPHA = "alpha"
WORDS = {
    **{name: name for name in (*PRIMARIES, ALPHA)},
    "r": "red",
    "g": "green",
    "b": "blue",
    "a": ALPHA,
    "opacity": ALPHA,
}
NEUTRAL_WORDS = ("channel", "ch", "c", "brightfield", "bright", "field", "bf", "tl", "camera")
"""Words beside a colour that do not change its meaning, as in "Channel 0: Red"; "Texas Red" is a dye."""
SILENT = re.compile(r"(channel|chan|ch|c|image|series|sample|rgb|\d|[\s:;/_.,#()-])*", re.IGNORECASE)
"""Names without information: "", "Channel 0", "C:1", "Channel:0:2"."""
SHOWN_AS = {"ff0000": "red", "00ff00": "green", "0000ff": "blue"}
"""Display colours of channels, RRGGBB."""
DYE_WORDS = re.compile(
    r"\b(dapi|hoechst|fitc|tritc|cy\s?\d(\.\d)?|[ygrbc]fp|mcherry|texas|alexa|rhodamine|fluor\w*|dic|phase)\b",
    re.IGNORECASE,
)
"""Words that exclude brightfield."""

Order = tuple[tuple[int, int, int], int | None]
"""Indices of red, green and blue, and of alpha if there is one."""


def rgb_order(names: Sequence[str], colours: Sequence[str] = ()) -> Order | None:
    """Find red, green, blue and possibly alpha among channels; None if they are not RGB.

    Parameters
    ----------
    names
        Names in the file, "" for unnamed channels. Three names without information stand for red, green, blue.
    colours
        Display colours of the channels, RRGGBB, which decide if the names carry no information.
    """
    identified = [_colour(name) for name in names]
    if all(SILENT.fullmatch(name) for name in names):
        displayed = [SHOWN_AS.get(colour.lower().lstrip("#")) for colour in colours]
        identified = displayed if Counter(displayed) == Counter(PRIMARIES) else list(PRIMARIES)
    if len(identified) != len(names) or Counter(identified) not in (Counter(PRIMARIES), Counter((*PRIMARIES, ALPHA))):
        return None
    red, green, blue = (identified.index(colour) for colour in PRIMARIES)
    return (red, green, blue), identified.index(ALPHA) if ALPHA in identified else None


def is_fluorescent(*texts: str | None) -> bool:
    """Return whether the description of a channel excludes brightfield."""
    return any(DYE_WORDS.search(text) for text in texts if text)


def _colour(name: str) -> str | None:
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in NEUTRAL_WORDS]
    return WORDS.get(words[0]) if len(words) == 1 else None
