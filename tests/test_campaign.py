"""A small campaign of injected faults: kills, signals, a full disk, damage and bad input."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "campaign.py"
ASKED = {"kills": 1, "aimed": 1, "flips": 8, "inputs": 4}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_everything_holds(tmp_path: Path) -> None:
    faults = [part for kind, count in ASKED.items() for part in (f"--{kind}", str(count))]
    done = subprocess.run(
        [sys.executable, SCRIPT, "--work", tmp_path, *faults],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for kind, count in ASKED.items():
        (row,) = [line for line in done.stdout.splitlines() if line.startswith(f"| {kind} ")]
        injected, _, _, fell = (cell.strip() for cell in row.strip("|").split("|")[1:])
        assert (injected, fell) == (str(count), "0")
