"""Codes of label images: what a pixel is, and, in training targets, what it may be."""

BACKGROUND, CYTOPLASM, NUCLEUS = 0, 1, 2
"""Classes of a semantic label image (uint8), in the order of the network's segmentation outputs."""

MAY_BE_BACKGROUND, MAY_BE_CYTOPLASM, MAY_BE_NUCLEUS = 1 << BACKGROUND, 1 << CYTOPLASM, 1 << NUCLEUS
"""Bits of a target (uint8): the classes that the annotation allows for a pixel."""
MAY_BE_CELL = MAY_BE_CYTOPLASM | MAY_BE_NUCLEUS
"""Cell, but whether nucleus or cytoplasm is not annotated."""
MAY_BE_ANYTHING = MAY_BE_BACKGROUND | MAY_BE_CELL
"""Not annotated."""
