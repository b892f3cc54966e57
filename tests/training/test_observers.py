"""Loggers besides TensorBoard, and Keras callbacks: they are told, also after a resume."""

import csv
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import autoslim
from autoslim.errors import AutoslimError
from autoslim.training.optimizers import make_optimizer

X = np.random.default_rng(0).normal(size=(24, 4, 4, 1)).astype("float32")
Y = np.arange(24) % 2


class Watcher(keras.callbacks.Callback):
    seen: list = []

    def __init__(self, name):
        super().__init__()
        self.name = name

    def on_train_begin(self, logs=None):
        self.seen.append((self.name, "begin"))

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((self.name, epoch, sorted(logs)))

    def on_train_end(self, logs=None):
        self.seen.append((self.name, "end"))


def net():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])


def fit(folder=None, **keys):
    return autoslim.fit(net(), (X, Y), folder=folder, batch_size=8, log_steps=1, **{"epochs": 2, **keys})


def test_csv_holds_every_point_once_also_after_a_resume(tmp_path):
    fit(tmp_path, logger=["csv"], epochs=1, schedule="constant")
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("99,network/loss,0.5\n")  # of a killed process, after its last checkpoint
    fit(tmp_path, logger=["csv"], epochs=2, schedule="constant")
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    losses = [row for row in rows if row["name"].endswith("loss")]
    assert [int(row["step"]) for row in losses] == [1, 2, 3, 4, 5, 6]
    assert all(0 < float(row["value"]) < 10 for row in losses)


def test_other_loggers_are_told(tmp_path, monkeypatch):
    told = []
    known = SimpleNamespace(info=SimpleNamespace(run_id="of before"))
    run = SimpleNamespace(
        log=lambda values, step: told.append(("wandb", step, sorted(values))),
        finish=lambda: told.append(("wandb", "end")),
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **how: run))
    mlflow = SimpleNamespace(
        set_experiment=lambda name: SimpleNamespace(experiment_id="1"),
        start_run=lambda **how: told.append(("mlflow", how["run_name"], how.get("run_id"))),
        MlflowClient=lambda: SimpleNamespace(search_runs=lambda *_, **__: [known]),
        log_metrics=lambda values, step: told.append(("mlflow", step, sorted(values))),
        end_run=lambda: told.append(("mlflow", "end")),
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    how = {"logger": ["wandb", "mlflow"], "description": "retrain 0.5, seed 1", "schedule": "constant"}
    fit(tmp_path / "net" / "stage", epochs=1, **how)
    assert told[0] == ("mlflow", "net retrain 0.5, seed 1", None)
    assert [one[:2] for one in told if one[0] == "wandb"] == [("wandb", n) for n in (1, 2, 3, "end")]
    assert any("loss" in name for name in told[1][2])
    told.clear()
    fit(tmp_path / "net" / "stage", epochs=2, **how)  # it goes on
    assert told[0] == ("mlflow", "net retrain 0.5, seed 1", "of before") and told[1][1] == 4


def test_a_package_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(AutoslimError, match="^train.logger=wandb needs a package that is not installed: pip"):
        fit(tmp_path, logger=["wandb"])


def failing(*_, **__):
    raise RuntimeError("the server\nis away")


def test_a_logger_that_cannot_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=failing))
    with pytest.raises(AutoslimError, match="^train.logger=wandb could not start: the server. Correct the"):
        fit(tmp_path, logger=["wandb"])


def test_a_logger_that_fails_on_the_way_is_left_out(tmp_path, monkeypatch, caplog):
    run = SimpleNamespace(log=failing, finish=failing)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **how: run))
    history = fit(tmp_path, logger=["wandb"])
    (said,) = (record.message for record in caplog.records if "wandb" in record.message)
    assert said.startswith("train.logger=wandb failed at step 1, and the training goes on without it: the se")
    assert [row["epoch"] for row in history] == [1, 2]


def test_callbacks_are_called():
    Watcher.seen.clear()
    fit(callbacks={"mine": {"_target_": f"{__name__}.Watcher", "name": "w"}})
    kinds = [one[1] for one in Watcher.seen]
    assert kinds == ["begin", 0, 1, "end"] and any("loss" in name for name in Watcher.seen[1][2])


@pytest.mark.parametrize(
    "section, message",
    [
        ({"name": "w"}, "train.callbacks.mine has no _target_: expected"),
        ({"_target_": "os.getcwd"}, "os.getcwd returned a str: expected a Keras callback."),
        ({"_target_": "keras.callbacks.EarlyStopping", "speed": 3}, "refused its arguments: "),
    ],
)
def test_callbacks_that_cannot_be_made(section, message):
    with pytest.raises(AutoslimError, match=message):
        fit(callbacks={"mine": section})


def test_any_keras_optimizer():
    model = net()
    how = {"_target_": "keras.optimizers.Lion", "args": {"beta_1": 0.8}, "weight_decay": 0.01}
    made = make_optimizer(model, learning_rate=0.01, **how)
    assert isinstance(made, keras.optimizers.Lion)
    assert (made.beta_1, made.weight_decay, float(made.learning_rate)) == (0.8, 0.01, pytest.approx(0.01))
    assert autoslim.fit(model, (X, Y), epochs=1, batch_size=8, **how)[0]["epoch"] == 1


@pytest.mark.parametrize(
    "how, message",
    [
        ({"_target_": "keras.optimizers.Lion", "args": {"momentum": 1}}, "was called with learning_rate, "),
        ({"_target_": "keras.optimizers.Nothing"}, "keras.optimizers has no Nothing"),
        ({"_target_": "builtins.dict"}, "returned a dict: expected a Keras optimizer."),
    ],
)
def test_optimizers_that_cannot_be_made(how, message):
    with pytest.raises(AutoslimError, match=message):
        fit(**how)
