"""Bars, and figures kept in a file."""

import pytest
from benchmark_common import Bar, Records

from autoslim.errors import AutoslimError


def test_verdicts():
    assert [Bar("x", figure, 0.5).verdict for figure in (0.5, 0.51, None)] == ["pass", "FAIL", "not measured"]


def test_records_are_measured_once(tmp_path):
    path = tmp_path / "benchmarks" / "x.json"
    calls = []

    def measure():
        calls.append(1)
        return {"seconds": len(calls)}

    assert Records(path, {"arms": 4}).get("a", measure)["seconds"] == 1
    later = Records(path, {"arms": 4})
    assert later.get("a", measure)["seconds"] == 1
    assert later.get("a", measure, again=True)["seconds"] == 2
    assert Records(path, {"arms": 4}).records["a"]["seconds"] == 2


def test_records_of_other_settings_are_refused(tmp_path):
    path = tmp_path / "x.json"
    Records(path, {"arms": 4}).put("a", {})
    with pytest.raises(AutoslimError) as error:
        Records(path, {"arms": 3})
    assert str(error.value) == (
        f"{path} holds figures of arms=4, this run has arms=3. Name another file with --results."
    )
    path.write_text("[]")
    with pytest.raises(
        AutoslimError, match="holds no figures of a benchmark .* Name another file, or remove"
    ):
        Records(path, {"arms": 4})
