"""Image metadata in OME-XML: name, scale and channels."""

from dataclasses import dataclass
from xml.etree import ElementTree as ET

from sgcldff.slides.pixels.channels import is_fluorescent
from sgcldff.slides.pixels.units import Spacing, in_um


@dataclass(frozen=True)
class OmeImage:
    """The description of an image in OME-XML."""

    name: str = ""
    spacing: Spacing = (None, None)
    """um/px along y and x."""
    channels: tuple[str, ...] = ()
    """Names; "" for unnamed channels."""
    bits: int | None = None
    """Significant bits of a sample."""
    fluorescent: bool = False
    """Whether a channel has a dye, an emission wavelength, or fluorescence as its contrast."""


def ome_images(xml: str | None) -> tuple[OmeImage, ...]:
    """Read the images of OME-XML, in their order.

    Raises
    ------
    xml.etree.ElementTree.ParseError, ValueError
        If it is damaged.
    """
    if not xml:
        return ()
    root = ET.fromstring(xml)  # noqa: S314  expat itself bounds the growth of entities
    return tuple(_image(image) for image in root.findall("{*}Image"))


def _image(image: ET.Element) -> OmeImage:
    name = image.get("Name", "")
    pixels = image.find("{*}Pixels")
    if pixels is None:
        return OmeImage(name)
    channels = pixels.findall("{*}Channel")
    bits = pixels.get("SignificantBits")
    return OmeImage(
        name,
        (_size(pixels, "Y"), _size(pixels, "X")),
        tuple(channel.get("Name", "") for channel in channels),
        int(bits) if bits else None,
        any(map(_is_fluorescent, channels)),
    )


def _size(pixels: ET.Element, axis: str) -> float | None:
    size = pixels.get(f"PhysicalSize{axis}")
    return None if size is None else in_um(float(size), pixels.get(f"PhysicalSize{axis}Unit", "µm"))


def _is_fluorescent(channel: ET.Element) -> bool:
    texts = [channel.get(name) for name in ("Name", "Fluor", "ContrastMethod", "IlluminationType")]
    emits = any(channel.get(name) for name in ("Fluor", "EmissionWavelength"))
    return emits or channel.get("IlluminationType") == "Epifluorescence" or is_fluorescent(*texts)
