"""Whatever happens to the files that are kept, they say the same as before, or are refused.

`make fuzz` tries 10,000 cases; SGCLDFF_FUZZ is their number.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

CASES = int(os.environ.get("SGCLDFF_FUZZ", "60"))
MANY = 1000
"""From so many cases on, every run tries others."""


@pytest.mark.slow
def test_damaged_files_say_the_same_or_are_refused():
    seed = 0 if CASES < MANY else time.time_ns()
    command = [sys.executable, "-m", "tests.damage", str(CASES), str(seed)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert not told["wrong"], "\n".join(told["wrong"])
    assert sum(told["counts"].values()) == CASES
    assert {name for name in told["counts"] if name.endswith("same")} >= {"slide: same"}
