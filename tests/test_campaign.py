"""A small campaign of injected faults: kills, signals, a full disk, damage and bad input."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "campaign.py"
SHORT = {"kills": 1, "flips": 8, "inputs": 2}
LONG = {"kills": 3, "aimed": 3, "full": 1, "broken": 1, "signals": 2, "pairs": 1, "inputs": 20}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("asked", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
def test_everything_holds(tmp_path: Path, asked: dict[str, int]) -> None:
    faults = [part for kind, count in asked.items() for part in (f"--{kind}", str(count))]
    done = subprocess.run(
        [sys.executable, SCRIPT, "--work", tmp_path, *faults],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for kind, count in asked.items():
        (row,) = [line for line in done.stdout.splitlines() if line.startswith(f"| {kind} ")]
        injected, _, _, fell, _ = (cell.strip() for cell in row.strip("|").split("|")[1:])
        assert (injected, fell) == (str(count), "0")
