"""Queues and answers for the tests of reviews."""

import re
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq

from sgcldff.core.records import UNIDENTIFIED, ModelRef
from sgcldff.data.reviews.consensus import consensus_of
from sgcldff.inference import serially
from sgcldff.results.review.apply import apply_reviews
from sgcldff.results.review.page import write_page
from sgcldff.results.review.queue import queue_order, write_queue
from sgcldff.results.review.selection import ReviewSelection, chosen, read_slide_cells, results_in
from sgcldff.results.slide import read_slide_job
from sgcldff.slides import find_slides
from tasks.review import picture_cells
from tests.sgcldff.painted import ColourModel
from tests.sgcldff.results.verdicts import reviews_of


def every_third_sure(slide):
    """Tell every third cell rightly and leave the others unidentified."""
    return [cell.label if number % 3 == 0 else UNIDENTIFIED for number, cell in enumerate(slide.cells)]


def make_queue(folder, results, slide, choice=None):
    """Make a queue as the flow does."""
    found = [read_slide_cells(place) for place in results_in([results])]
    picked = chosen(found, choice or ReviewSelection())
    entries = find_slides([str(slide)])
    cells = [
        cell
        for one in found
        for cell in picture_cells.fn(one, picked[picked["slide_id"] == one.slide_id], entries, folder, lambda: None)
    ]
    ordered = sorted(cells, key=queue_order)
    write_queue(folder, ordered)
    write_page(folder, ordered)
    return ordered


def cells_of(results):
    return pq.read_table(results / "smear" / "cells.parquet").to_pandas()


def read_painted(job, digest="colours"):
    """Read a painted slide with the model of that digest: version 7, any other is version 8."""
    reference = ModelRef("stub", "7" if digest == "colours" else "8", digest)
    return read_slide_job(replace(job, reference=reference), serially(ColourModel(digest)))


def review_first(folder, labels=("monocyte", "basophil")):
    """Apply the reviews of a slide's first cells."""
    cells = pd.read_parquet(folder / "cells.parquet").head(len(labels))
    return apply_reviews(folder, consensus_of(reviews_of(cells, labels)))


def section(folder):
    """Give what a slide's report says of what people did."""
    return re.search('<section id="people">.*?</section>', (folder / "report.html").read_text(), re.DOTALL)[0]
