"""Zheng et al. 2018, Dataset 2: 300x300 px crops around one cell, from the CellaVision blog."""

from sgcldff.data.adapters.base import PublishedSize
from sgcldff.data.adapters.jtsc import PAGE, ZHENG_MASK, Zheng

ADAPTER = Zheng(
    name="cellavision",
    title="Zheng Dataset 2 (CellaVision)",
    licence="GPL-3.0",
    url=PAGE,
    instructions="download the repository; name the folder with 'Dataset 2' and 'Class Labels of Dataset 2.csv'",
    mpp=0.09,
    published=PublishedSize(((300, 300),)),
    mask_code=ZHENG_MASK,
    part="Dataset 2",
)
"""The scale is assumed: white blood cells are 150 px wide, as in PBC, which is from analysers of the same maker."""
