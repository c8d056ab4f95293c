"""Slides behind one protocol: OpenSlide formats, TIFF and OME-TIFF, OME-Zarr, and plain images as one-level slides.

Several threads may read from one handle; it is pickled as its `SlideRef`, so that a worker process opens the file for
itself. A slide in a remote store is copied to the machine that reads it.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from sgcldff.slides.base import SlideSource
    from sgcldff.slides.discovery import SlideEntry, find_slides
    from sgcldff.slides.opener import open_slide, reopen
    from sgcldff.slides.scaled import ScaledSlide
else:  # finding slides needs no reader
    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "discovery": ["SlideEntry", "find_slides"],
            "opener": ["open_slide", "reopen"],
            "scaled": ["ScaledSlide"],
            "base": ["SlideSource"],
        },
    )

__all__ = ["ScaledSlide", "SlideEntry", "SlideSource", "find_slides", "open_slide", "reopen"]
