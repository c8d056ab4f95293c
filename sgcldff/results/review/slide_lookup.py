"""The slides behind results: found by name and identified by content, since results do not say where slides are."""

from collections.abc import Sequence

from sgcldff.core.errors import InputError, SlideError, readable
from sgcldff.results.review.selection import SlideCells
from sgcldff.slides import SlideEntry, SlideSource, find_slides, open_slide
from sgcldff.slides.remote.cache import slide_file


def find_each(inputs: Sequence[str]) -> tuple[tuple[SlideEntry, ...], tuple[str, ...]]:
    """Find slides as `find_slides` does, but go on past inputs that are not there.

    Returns
    -------
    tuple
        The slides, and why inputs were skipped.
    """
    try:
        return find_slides(inputs), ()
    except InputError as error:
        if len(inputs) < 2:
            return (), (str(error),)
    parts = [find_each([text]) for text in inputs]
    slides = {slide.uri: slide for found, _ in parts for slide in found}
    return tuple(slides.values()), tuple(reason for _, reasons in parts for reason in reasons)


def namesakes(found: SlideCells, slides: Sequence[SlideEntry]) -> list[SlideEntry]:
    """Choose the slides from which results may have been read, by id or file name."""
    return [slide for slide in slides if found.slide_id == slide.id or found.file == readable(slide_file(slide.uri))]


def open_read(found: SlideCells, slides: Sequence[SlideEntry]) -> SlideSource:
    """Open the slide that results were read from, at the scale at which it was read.

    Raises
    ------
    SlideError
        If none of `slides` has its id or its file's name, or none of those has its content.
    """
    named = namesakes(found, slides)
    for slide in named:
        source = open_slide(slide.uri, found.mpp, found.slide_id)
        if source.ref.sha256 == found.sha256:
            return source
        source.close()
    if named:
        raise SlideError(
            f"slide {found.slide_id}: {found.file} is another one now, its content has not the digest "
            f"{found.sha256[:12]} of the results: put the former one back, or read the slide again"
        )
    raise SlideError(f"slide {found.slide_id}: {found.file} is not among the slides given: name it with --slides")
