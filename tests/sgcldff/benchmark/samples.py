"""Samples for the tests of benchmarks."""

from sgcldff.core.records import Sample, Split


def sample(name: str, label: str | None, split: Split = Split.TRAIN, group: str = "") -> Sample:
    source = name[0]
    return Sample(name, source, group or name, f"{name}.png", 0.2, "none", label, split=split)
