"""Networks of several targets, retrained as one."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import lasting
from staged import folder, results, run

from autoslim.stages import Outcome


@pytest.fixture(scope="module")
def together(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The output of retraining two targets as one."""
    output = Path(shutil.copytree(whole, tmp_path_factory.mktemp("joint") / "copy"))
    shutil.rmtree(folder(output, "retrain"))
    return output, run(output, slim__target="[0.7,0.5]", retrain="joint", stages=JOINT)


JOINT = "[baseline,supernet,search,retrain,report]"


@pytest.mark.long
def test_networks_retrained_as_one_are_reported_as_others(together: tuple[Path, Outcome]) -> None:
    output, outcome = together
    assert [(row["network"], row["target"]) for row in outcome.rows] == [
        ("baseline", None),
        ("autoslim", 0.7),
        ("autoslim", 0.5),
    ]
    report = (Path(outcome.folders["report"]) / "report.md").read_text()
    assert "AutoSlim 0.7" in report and "AutoSlim 0.5" in report
    assert "- supernet + search + retrain 0.7 + retrain 0.5: " in report
    parts = [Path(outcome.folders[f"retrain {target}"]) for target in ("0.7", "0.5")]
    for part in parts:
        assert {"model.keras", "channels.yaml", "full.weights.h5", "result.json"} <= set(os.listdir(part))
    baseline, joint = results(output, "baseline", "joint")
    wide, narrow = (json.loads((part / "result.json").read_text()) for part in parts)
    assert joint["bill"] == pytest.approx(wide["bill"] + narrow["bill"])
    assert narrow["bill"] == pytest.approx(narrow["flops"] / baseline["flops"])
    assert [set(epoch) for epoch in narrow["history"]] == [{"epoch", "train/loss", "train/top1"}]


@pytest.mark.long
def test_they_share_weights_but_no_batch_norms(together: tuple[Path, Outcome]) -> None:
    import keras

    models = [
        keras.saving.load_model(Path(together[1].folders[f"retrain {target}"]) / "model.keras")
        for target in ("0.7", "0.5")
    ]
    wide, narrow = ({v.path: np.asarray(v) for v in model.variables} for model in models)
    assert wide.keys() == narrow.keys()
    for path, value in narrow.items():
        corner = wide[path][tuple(slice(n) for n in value.shape)]
        if path.endswith("/gamma"):
            assert (value != corner).all(), path
        elif path.endswith("/kernel"):
            np.testing.assert_array_equal(value, corner)


@pytest.mark.long
def test_a_part_that_was_lost_is_made_anew(together: tuple[Path, Outcome], tmp_path: Path) -> None:
    """From the checkpoint, without training."""
    output = Path(shutil.copytree(together[0], tmp_path / "copy"))
    (place,) = (
        path for path in output.glob("*/retrain-*") if path.name in together[1].folders["retrain 0.5"]
    )
    before = lasting(place / "result.json")
    shutil.rmtree(place)
    run(output, slim__target="[0.7,0.5]", retrain="joint", stages=JOINT)
    assert lasting(place / "result.json") == before
