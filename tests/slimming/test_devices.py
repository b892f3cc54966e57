"""Several devices score what one would: two logical devices in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_same_path_on_two_devices():
    done = subprocess.run(
        [sys.executable, HERE / "replicas.py"], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["replicas"] == 2 and len(found["one"]) == 3
    for name, one in found["one"].items():
        assert len(one["points"]) > 4
        for where in ("two", "given later"):
            two = found[where][name]
            assert [p["widths"] for p in two["points"]] == [p["widths"] for p in one["points"]]
            for mine, theirs in zip(two["points"], one["points"], strict=True):
                for spent in ("macs", "scored", "images", "naive_macs", "top1"):
                    assert mine[spent] == theirs[spent]
                assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
            assert [e["points"] == [] for e in two["exchanges"]] == [
                e["points"] == [] for e in one["exchanges"]
            ]
