"""Slides behind one protocol: OpenSlide formats, TIFF and OME-TIFF, OME-Zarr, and plain images as slides of one level.

A handle may be read by several threads at once; it is pickled as its `SlideRef`, so a worker process that receives one
opens the file for itself. A slide in a store is copied to the machine that reads it.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from sgcldff.slides.listing import SlideEntry, find_slides
    from sgcldff.slides.opening import open_slide, reopen
    from sgcldff.slides.scaled import ScaledSlide
    from sgcldff.slides.source import SlideSource
else:  # who only looks for slides loads no reader
    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "listing": ["SlideEntry", "find_slides"],
            "opening": ["open_slide", "reopen"],
            "scaled": ["ScaledSlide"],
            "source": ["SlideSource"],
        },
    )

__all__ = ["ScaledSlide", "SlideEntry", "SlideSource", "find_slides", "open_slide", "reopen"]
