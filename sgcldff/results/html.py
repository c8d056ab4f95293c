"""What all pages are made of: templates, pictures, data and scripts that stand inside them."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from sgcldff.core.arrays import Rgb
from sgcldff.core.wording import any_of, counted, moment, percent
from sgcldff.inference.outputs.colours import hex_of

TEMPLATES = Path(__file__).parent / "templates"
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Script:
    """A script that stands inside a page."""

    text: Markup
    digest: str
    """For the page's policy, by which the browser runs no other script."""

    @classmethod
    def of(cls, text: str) -> "Script":
        """Take one of our own, or of a package that we depend on."""
        return cls(Markup(text), base64.b64encode(sha256(text.encode()).digest()).decode())  # noqa: S704


def scripts(names: Iterable[str]) -> list[Script]:
    """Read scripts that lie beside the templates."""
    return [Script.of((TEMPLATES / name).read_text(encoding="utf-8")) for name in names]


def leaflet() -> tuple[Script, Markup]:
    """Read the map library Leaflet, with its licence, and its style sheet."""
    data = files("xstatic.pkg.leaflet") / "data"
    licence = (TEMPLATES / "leaflet_licence.txt").read_text(encoding="utf-8")
    library, style = (data.joinpath(f"leaflet.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    return Script.of(f"/*\n{licence}*/\n{library.rpartition('//# sourceMappingURL')[0]}"), Markup(style)  # noqa: S704


def template(name: str) -> jinja2.Template:
    """Load a page's template; what is filled in is escaped, and what is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "colour": hex_of,
        "moment": moment,
        "counted": counted,
        "any_of": any_of,
        "thousands": "{:,}".format,
    }
    return environment.get_template(name)


def jpeg(rgb: Rgb) -> bytes:
    """Encode a picture, uint8 (H, W, 3); the same picture gives the same bytes."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def data_uri(rgb: Rgb) -> str:
    """Encode a picture as a JPEG that stands inside a page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(rgb)).decode("ascii")


def embedded_json(content: object) -> Markup:
    """Write what a script reads, as JSON that cannot end the element in which it stands."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704  # no sign is left that HTML gives a meaning
