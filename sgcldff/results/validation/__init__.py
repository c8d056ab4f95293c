"""A study that validates the differential of a laboratory's slides (CLSI H20-A2)."""

from sgcldff.results.validation.page import write_validation
from sgcldff.results.validation.study import Study, read_study

__all__ = ["Study", "read_study", "write_validation"]
