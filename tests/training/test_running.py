"""What the loop does around its steps: averages, curves, XLA, several steps a call."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import bits, given, images, network, running, sgd, shuffled
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util
from test_loop import Stopping

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels
from autoslim.training import compiling
from autoslim.training.curves import Stopwatch
from autoslim.training.loop import train
from autoslim.training.optimizers import make_optimizer
from autoslim.training.steps import plain_step, sandwich_step


def plain(seed=0, **keys):
    return plain_step(ChannelGraph(network(seed, dropout=0.3)), sgd(), **keys)


def averaging(seed=0):
    model = network(seed, norm=False)
    return plain_step(
        ChannelGraph(model), make_optimizer(model, learning_rate=0.05, weight_decay=0.0, ema=0.75)
    )


def sandwich(seed=0):
    graph = ChannelGraph(network(seed, dropout=0.3))
    return sandwich_step(graph, Levels.spaced(graph, 3, divisor=2), sgd(), seed=4, arms=3)


def weights(step):
    return [np.array(v) for v in step.model.trainable_variables]


# -- moving average ----------------------------------------------------------------------------------


def test_the_network_ends_with_the_moving_average():
    """m <- 0.75 m + 0.25 w after every step, beginning with the first step's weights."""
    raw, expected = [], None
    step = averaging()
    by_hand = averaging()
    for number, (x, y) in enumerate(given().dataset(2)):
        by_hand(x, y, number)
        raw = weights(by_hand)
        expected = (
            raw if expected is None else [0.75 * m + 0.25 * w for m, w in zip(expected, raw, strict=True)]
        )
    train(step, given(), 2)
    for got, average, last in zip(weights(step), expected, raw, strict=True):
        np.testing.assert_allclose(got, average, rtol=1e-5, atol=1e-6)
        assert not np.allclose(got, last, rtol=1e-4)


def test_average_interrupted_and_evaluated_in_between(tmp_path):
    """Evaluations see the average and leave the training's own weights as they were."""
    whole = averaging()
    train(whole, given(), 3)
    with pytest.raises(KeyboardInterrupt):
        train(Stopping(averaging(), 4), given(), 3, folder=tmp_path)
    resumed, seen = averaging(2), []

    def evaluate():
        seen.append(weights(resumed))
        return {"test/loss": 1.5}

    history = train(running(resumed, evaluate_epochs=1), given(), 3, folder=tmp_path, evaluate=evaluate)
    assert bits(resumed.model, resumed.optimizer) == bits(whole.model, whole.optimizer)
    assert len(seen) == 2 and [entry.get("test/loss") for entry in history] == [None, 1.5, 1.5]
    for a, b in zip(seen[-1], weights(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_average_under_loss_scaling():
    model = network(norm=False)
    optimizer = make_optimizer(
        model, learning_rate=0.05, weight_decay=0.0, ema=0.5, precision="mixed_float16"
    )
    step = plain_step(ChannelGraph(model), optimizer, precision="mixed_float16")
    train(step, given(), 1)
    averages = [np.array(v) for v in optimizer.variables if "average" in v.path]
    assert len(averages) == len(weights(step))
    for got, average in zip(weights(step), averages, strict=True):
        np.testing.assert_array_equal(got, average)


# -- several steps in one call -----------------------------------------------------------------------


@pytest.mark.parametrize("several", [2, 3, 100])
def test_several_steps_in_a_call_have_the_same_bits(tmp_path, several):
    one, other = plain(), plain()
    history = train(one, shuffled(40), 3)  # five steps an epoch
    running(other, steps_per_execution=several, checkpoint_seconds=1e9, log_steps=4)
    assert train(other, shuffled(40), 3, folder=tmp_path) == history
    assert bits(other.model, other.optimizer) == bits(one.model, one.optimizer)
    points = curves(tmp_path)
    assert [step for step, _ in points["train/loss"]] == [4, 5, 8, 10, 12, 15]


def test_several_steps_in_a_call_meet_their_ends(tmp_path):
    class Counting(Stopping):
        def compute(self, *args):
            return self.step.compute(*args)

    step = Counting(plain(), 0)
    running(step, steps_per_execution=8, log_steps=100, checkpoint_seconds=0)
    train(step, shuffled(48), 2, folder=tmp_path)
    assert step.calls == 0  # none of them one by one
    found = tmp_path.glob("checkpoints/*.index")
    assert len(list(found)) == 2  # after steps 6 and 12, the ends of epochs


def test_several_steps_in_a_call_with_a_label_out_of_range():
    x, y = images(24)
    y[20] = 7
    source = given()
    object.__setattr__(source, "epoch", tf.data.Dataset.from_tensor_slices((x, y)).batch(8))
    with pytest.raises(AutoslimError, match=r"^Label 7 is out of range: .* for all of them\.$"):
        train(plain(steps_per_execution=3), source, 1)


def test_sandwich_steps_are_taken_one_by_one():
    one, other = sandwich(), sandwich()
    assert train(one, given(), 2) == train(running(other, steps_per_execution=3), given(), 2)
    assert bits(one.model) == bits(other.model)


# -- what is shown -----------------------------------------------------------------------------------


def curves(folder):
    folder = str(next(folder.rglob("events.*")).parent)
    events = event_accumulator.EventAccumulator(folder, size_guidance={event_accumulator.TENSORS: 0})
    events.Reload()
    return {
        tag: [(e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_speed_is_logged_and_summed_up(tmp_path, caplog):
    caplog.set_level("INFO")
    train(plain(log_steps=3), given(), 3, folder=tmp_path, description="small")
    points = curves(tmp_path)
    speed = dict(points["speed/images_per_second"])
    assert list(speed) == [3, 6, 9]
    for (_, rate), (_, seconds) in zip(
        points["speed/images_per_second"], points["speed/step_seconds"], strict=True
    ):
        assert rate * seconds == pytest.approx(8, rel=1e-3)
    assert all(0 <= share <= 1 for _, share in points["speed/share_of_time_waiting_for_images"])
    (line,) = [record.message for record in caplog.records if record.name == "autoslim.training.loop"]
    assert line.endswith(" of it waiting for images")


def test_the_stopwatch(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("autoslim.training.curves.time.monotonic", lambda: now[0])
    watch = Stopwatch(batch_size=10)

    def spend(seconds, around=None):
        if around is None:
            now[0] += seconds
        else:
            with around:
                now[0] += seconds

    spend(5.0, watch.waiting())
    spend(50.0)  # the first step, which is traced
    watch.took(1)
    assert watch.lap() == {} and watch.summary() == ""
    spend(1.0, watch.waiting())
    spend(3.0)
    spend(30.0, watch.paused())
    watch.took(2)
    assert watch.lap() == {
        "speed/images_per_second": 5.0,
        "speed/step_seconds": 2.0,
        "speed/share_of_time_waiting_for_images": 0.25,
    }
    spend(6.0)
    watch.took(2)
    watch.lap()
    assert watch.summary() == "4 images/s, 2500.0 ms a step, 10% of it waiting for images"


def test_no_waiting_is_told_of_where_it_is_not_seen(tmp_path, caplog):
    caplog.set_level("INFO")
    train(plain(steps_per_execution=3), given(), 3, folder=tmp_path, description="small")
    assert not [tag for tag in curves(tmp_path) if "waiting" in tag]
    (line,) = [record.message for record in caplog.records if record.name == "autoslim.training.loop"]
    assert re.fullmatch(r"small: \d+ images/s, [\d.]+ ms a step", line)


def test_evaluations_are_drawn(tmp_path):
    values = iter([0.25, 0.5])
    history = train(
        plain(evaluate_epochs=2),
        given(),
        5,
        folder=tmp_path,
        evaluate=lambda: {"test/top1": next(values)},
    )
    assert [entry.get("test/top1") for entry in history] == [None, 0.25, None, 0.5, None]
    assert curves(tmp_path)["test/top1"] == [(6, 0.25), (12, 0.5)]


# -- XLA ---------------------------------------------------------------------------------------------


@pytest.mark.long
def test_xla_is_decided_once(tmp_path, monkeypatch, caplog):
    """Measured without moving anything; kept in the checkpoint, so that a resumed training has its bits."""
    caplog.set_level("INFO")
    monkeypatch.setattr(compiling, "_worth_measuring", lambda: True)
    fast = {False: 0.002, True: 0.001}
    measured = []

    def seconds(step, images, labels, jit):
        measured.append(jit)
        real(step, images, labels, jit)
        return fast[jit]

    real = compiling.seconds
    monkeypatch.setattr(compiling, "seconds", seconds)
    with pytest.raises(KeyboardInterrupt):
        train(Stopping(plain(jit="auto"), 4), given(), 3, folder=tmp_path)
    assert measured == [False, True]
    assert "train.jit=auto: on; a pass takes 2.0 ms without XLA, 1.0 with it." in caplog.text
    fast[True] = 0.003
    resumed = plain(3, jit="auto")
    train(resumed, given(), 3, folder=tmp_path)
    assert measured == [False, True] and resumed.differentiation.jit
    whole = plain(jit="on")
    train(whole, given(), 3)
    assert bits(resumed.model, resumed.optimizer) == bits(whole.model, whole.optimizer)


@pytest.mark.parametrize("make", [plain_step, sandwich_step])
def test_xla_gives_the_same_to_rounding(make):
    found = []
    for jit in ("on", "off"):
        graph = ChannelGraph(network(regularizer="l2"))
        levels = [Levels.spaced(graph, 3, divisor=2)] if make is sandwich_step else []
        step = make(graph, *levels, sgd(), jit=jit)
        history = train(step, given(), 2)
        found.append((history, [np.array(v) for v in step.model.variables], step.differentiation.jit))
    assert [jit for *_, jit in found] == [True, False]
    for one, other in zip(found[0][0], found[1][0], strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_xla_is_not_measured_on_a_cpu(caplog):
    caplog.set_level("INFO")
    compiling._tell_unmeasured.cache_clear()
    step = sandwich()
    train(step, given(), 1)
    assert not step.differentiation.jit
    assert "train.jit=auto: off, without measuring" in caplog.text


def test_a_network_that_can_not_be_compiled(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(compiling, "_worth_measuring", lambda: True)

    def fails(*args):
        raise tf.errors.UnimplementedError(None, None, "no such gradient\nat x")

    monkeypatch.setattr(compiling, "seconds", fails)
    step = plain(jit="auto")
    train(step, given(), 1)
    assert not step.differentiation.jit
    assert "train.jit=auto: off, this network can't be compiled (no such gradient)." in caplog.text
    keras.utils.clear_session()


def test_a_network_that_xla_must_compile_and_can_not():
    """XLA has no deterministic gradient of max pooling."""
    program = """
import keras, tensorflow as tf
from small import given, sgd, CLASSES, SHAPE
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.training.loop import train
from autoslim.training.steps import plain_step
tf.config.experimental.enable_op_determinism()
keras.utils.set_random_seed(0)
x = keras.Input(SHAPE)
y = keras.layers.MaxPooling2D()(keras.layers.Conv2D(4, 3)(x))
model = keras.Model(x, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(y)))
try:
    train(plain_step(ChannelGraph(model), sgd(), jit="on"), given(), 1)
except AutoslimError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent,
        check=False,
    )
    assert done.stdout.startswith("XLA can't compile this network's steps ("), done.stderr[-2000:]
    assert done.stdout.endswith(
        "). Set train.jit=off or auto, or train.deterministic=false, if it is the determinism that it "
        "lacks.\n"
    )
