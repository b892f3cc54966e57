"""Every task through the command line's own stages, with short training."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from autoslim.config import compose
from autoslim.stages.pipeline import run_stages

sys.path.insert(0, str(Path(__file__).parent))

import task_cases  # noqa: E402

SHORT = {
    "train.batch_size": 40,
    "train.calibration_batches": 2,
    "train.deterministic": "false",
    "baseline.epochs": 1,
    "supernet.epochs": 1,
    "supernet.arms": 2,
    "retrain.epochs": 1,
    "slim.levels": 2,
    "slim.min_width": 0.5,
    "slim.target": 0.6,
    "dataset": "custom",
    "arch": "custom",
    "stages": "[baseline,supernet,search,retrain,report]",
}
RUNS = {  # data and network of `task_cases`, metric, keys
    "segmentation": ("segmentation", "unet", "mean_iou", {"task": "segmentation"}),
    "regression": ("regression", "regressor", "mae", {"task": "regression", "task.loss": "huber"}),
    "multilabel": ("multilabel", "sigmoids", "f1", {"task": "multilabel"}),
    "siamese": ("pairs", "siamese", "top1", {}),
    "two heads": (
        "two_heads",
        "heads",
        "top1",
        {
            "+task.outputs.ink": "regression",
            "+task.outputs.digit": "classification",
            "+task.weights.ink": 0.5,
        },
    ),
}


LONG = ("regression", "multilabel")  # what is their own is tested on the parts


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in RUNS]
)
def test_every_task_through_all_stages(name, tmp_path):
    data, network, metric, keys = RUNS[name]
    where = {
        "dataset._target_": f"task_cases.{data}",
        "arch._target_": f"task_cases.{network}",
        "output": tmp_path,
    }
    outcome = run_stages(compose({**SHORT, **where, **keys, "dataset.name": data, "arch.name": network}))
    assert [row["network"] for row in outcome.rows] == ["baseline", "autoslim"]
    assert all(row["measure"]["name"] == metric for row in outcome.rows)
    slim = outcome.rows[1]
    assert slim["flops_share"] <= 0.6
    folder = Path(outcome.folders["retrain 0.6"])
    result = json.loads((folder / "result.json").read_text())
    assert result["metric"] == metric and result[metric] == pytest.approx(slim["metric"])
    assert {"train/loss", f"train/{metric}"} <= set(result["history"][0])
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    full = getattr(task_cases, network)
    assert model.count_params() < 0.9 * built(full, data).count_params()
    report = (Path(outcome.folders["report"]) / "report.md").read_text()
    assert "AutoSlim 0.6" in report and np.isfinite(slim["metric"])
    if metric != "top1":
        assert "top-1" not in report


def built(network, data):
    (x, y), _ = getattr(task_cases, data)()
    shape = {k: v.shape[1:] for k, v in x.items()} if isinstance(x, dict) else x.shape[1:]
    counts = {"segmentation": 3, "regression": 1, "multilabel": 3, "pairs": 2, "classes": 10}
    model = network(shape, {"digit": 10, "ink": 1} if data == "two_heads" else counts[data])
    if not model.built:
        model.build((None, *shape))
    return model


@pytest.mark.slow
def test_a_sequential_file(tmp_path):
    (x, _), _ = task_cases.classes()
    model = task_cases.sequential(x.shape[1:], 10)
    model.build((None, *x.shape[1:]))
    path = tmp_path / "own.keras"
    model.save(path)
    where = {
        "dataset._target_": "task_cases.classes",
        "arch": "keras_file",
        "arch.path": path,
        "output": tmp_path,
    }
    keys = {**SHORT, **where, "arch.name": "own", "arch.trained": "false", "retrain.init": "scratch"}
    keys["stages"] = "[uniform]"
    outcome = run_stages(compose(keys))
    small = keras.saving.load_model(Path(outcome.folders["uniform 0.6"]) / "model.keras")
    assert small.count_params() < 0.9 * model.count_params()
