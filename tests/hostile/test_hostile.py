"""Whatever stands in a file of others: it is read as it is, or refused with an error of our own that names it.

`make fuzz` tries 10,000 cases; SGCLDFF_FUZZ is their number.
"""

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.hostile.mutations import cases
from tests.hostile.sandbox import MOST_MB, MOST_S, Outcome, Sandbox

CASES = int(os.environ.get("SGCLDFF_FUZZ", "110"))
MANY = 1000
"""From so many cases on, every run tries others."""
KINDS = cases()


@pytest.fixture(scope="module")
def sandbox():
    """Start the process that forks a child for every case."""
    made = Sandbox()
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_others_is_read_or_refused(name, sandbox, tmp_path):
    reader, strategy = KINDS[name]
    outcomes: list[Outcome] = []

    @settings(
        max_examples=CASES // len(KINDS),
        phases=[Phase.generate],
        derandomize=CASES < MANY,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def attempt(case):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            case(Path(folder))
            outcomes.append(sandbox.read(reader, Path(folder)))

    attempt()
    counts = Counter(one.end for one in outcomes)
    print(f"\n{name}: {dict(counts)}, at most {max(one.seconds for one in outcomes):.1f} s")
    faults = [one for one in outcomes if one.end not in ("read", "refused") or one.mb > MOST_MB or one.seconds > MOST_S]
    assert not faults, f"{len(faults)} of {len(outcomes)}: " + "\n".join({one.text[:600] for one in faults})
