"""Queues and answers for the tests of reviews."""

import pyarrow.parquet as pq

from sgcldff.core.records import UNIDENTIFIED
from sgcldff.results.review.page import write_page
from sgcldff.results.review.queue import queue_order, write_queue
from sgcldff.results.review.selection import ReviewSelection, chosen, read_slide_cells, results_in
from sgcldff.slides import find_slides
from tasks.review import picture_cells


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
