"""Slides behind one protocol: OpenSlide formats, TIFF and OME-TIFF, OME-Zarr, and plain images as slides of one level.

A handle may be read by several threads at once; it is pickled as its `SlideRef`, so a worker process that receives one
opens the file for itself.
"""

from sgcldff.slides.opening import open_slide, reopen
from sgcldff.slides.scaled import ScaledSlide
from sgcldff.slides.source import SlideSource

__all__ = ["ScaledSlide", "SlideSource", "open_slide", "reopen"]
