"""The training loop: resume, history, interruption, what is written."""

import os
import signal
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import bits, given, images, network, running, sgd, shuffled
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

import autoslim
from autoslim.datasets import GivenBatches
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.interruption import deferred_interruption
from autoslim.slimming.levels import Levels
from autoslim.training.loop import train
from autoslim.training.steps import plain_step, sandwich_step

SPEED = {
    f"speed/{name}" for name in ("images_per_second", "step_seconds", "share_of_time_waiting_for_images")
}


def plain(**kwargs):
    return plain_step(ChannelGraph(network(dropout=0.3, **kwargs)), sgd())


def sandwich(**kwargs):
    graph = ChannelGraph(network(dropout=0.3, **kwargs))
    return sandwich_step(graph, Levels.spaced(graph, 3, divisor=2), sgd(), seed=4, arms=3)


class Stopping:
    """A step that asks for an interruption at one of its calls."""

    def __init__(self, step, at, times=1):
        self.step, self.at, self.times, self.calls = step, at, times, 0

    def __getattr__(self, name):
        return getattr(self.step, name)

    def __call__(self, *args):
        metrics = self.step(*args)
        self.calls += 1
        if self.calls == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)
        return metrics


class Diverging(Stopping):
    def __call__(self, *args):
        metrics = self.step(*args)
        self.calls += 1
        return {k: v * np.nan for k, v in metrics.items()} if self.calls == self.at else metrics


@pytest.mark.parametrize(("make", "source"), [(plain, given), (sandwich, shuffled)])
def test_interrupted_equals_uninterrupted(tmp_path, make, source):
    """Stopped in mid-epoch, at an epoch's end and in the last step; what the later ones start from does not "
    "matter."""
    whole = make()
    history = train(whole, source(), 3)
    for seed, stop in enumerate((2, 1, 4, 2)):  # after steps 2, 3, 7, 9 of 9
        with pytest.raises(KeyboardInterrupt):
            train(running(Stopping(make(seed=seed), stop), log_steps=2), source(), 3, folder=tmp_path)
    resumed = make(seed=8)
    assert train(resumed, source(), 3, folder=tmp_path) == history
    assert bits(resumed.graph.model, resumed.optimizer) == bits(whole.graph.model, whole.optimizer)


def test_checkpoints_after_every_step_change_nothing(tmp_path):
    one, other = plain(), plain()
    assert train(one, given(), 2) == train(running(other, checkpoint_seconds=0), given(), 2, folder=tmp_path)
    assert bits(one.graph.model) == bits(other.graph.model)


def test_more_epochs_go_on(tmp_path):
    step, whole = plain(), plain()
    first = train(step, given(), 1, folder=tmp_path)
    again = plain()
    history = train(again, given(), 3, folder=tmp_path)
    assert history[:1] == first and history == train(whole, given(), 3)
    assert bits(again.graph.model) == bits(whole.graph.model)


@pytest.mark.parametrize(
    "batch", [8, 24, 100]
)  # three, one and (of a batch lowered to the images) one a epoch
def test_history_is_the_mean_over_the_steps(batch):
    seen = []

    class Watching(Stopping):
        def __call__(self, *args):
            metrics = self.step(*args)
            seen.append({name: float(value) for name, value in metrics.items()})
            return metrics

    step = Watching(plain(), 0)
    history = train(running(step, log_steps=2), shuffled(batch=batch), 2)
    steps = len(seen) // 2
    assert [entry["epoch"] for entry in history] == [1, 2]
    for epoch, entry in enumerate(history):
        of_epoch = seen[epoch * steps : (epoch + 1) * steps]
        for name in ("train/loss", "train/top1"):
            assert entry[name] == pytest.approx(np.mean([m[name] for m in of_epoch]), rel=1e-6)


def test_training_learns():
    model = network()
    history = autoslim.fit(model, given(48), epochs=12, optimizer=sgd(0.1))
    assert history[-1]["train/loss"] < 0.7 * history[0]["train/loss"]


@pytest.mark.parametrize("log_steps", [1, 20])
def test_loss_that_is_not_finite(tmp_path, log_steps):
    with pytest.raises(KeyboardInterrupt):
        train(Stopping(plain(), 4), given(), 3, folder=tmp_path)
    good = plain()
    train(good, given(), 1)
    with pytest.raises(AutoslimError) as error:
        train(running(Diverging(plain(), 3), log_steps=log_steps), given(), 3, folder=tmp_path)
    assert str(error.value) == (
        "train/loss became NaN or infinite at step 7 of 9. The last good checkpoint is kept in "
        f"{tmp_path}/checkpoints. Lower optimizer.learning_rate, or set optimizer.clipnorm."
    )
    resumed, whole = plain(), plain()
    assert train(resumed, given(), 3, folder=tmp_path) == train(whole, given(), 3)
    assert bits(resumed.graph.model) == bits(whole.graph.model)


def test_an_image_that_is_not_finite_is_told():
    x, labels = images(24)
    x = np.array(x)
    x[13, 2] = np.nan
    said = "hold NaN or infinite values. Mend them, or leave them out."
    data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(8)
    with pytest.raises(AutoslimError, match=f"^1 images of a batch {said}$"):
        train(plain(), GivenBatches(data), 2)
    with pytest.raises(AutoslimError, match=f"^The arrays given: 1 images, number 13 the first, {said}$"):
        autoslim.fit(network(), (x, np.array(labels)), epochs=1)
    graph = ChannelGraph(network())
    for read in (lambda b: autoslim.evaluate(graph.model, b), lambda b: autoslim.calibrate(graph, b)):
        for batches in (data, list(data), GivenBatches(data)):
            with pytest.raises(AutoslimError, match=f"^Batch 1: 1 images, number 5 the first, {said}$"):
                read(batches)


def test_a_rate_that_is_far_too_high_is_told(tmp_path):
    step = plain_step(ChannelGraph(network(norm=False)), sgd(1e18))
    with pytest.raises(AutoslimError, match="became NaN or infinite"):
        train(running(step, checkpoint_seconds=0), given(), 4, folder=tmp_path)


def test_folder_of_another_training(tmp_path):
    train(plain(), given(), 1, folder=tmp_path)
    with pytest.raises(
        AutoslimError, match=r"are of another training: it had 3 steps per epoch, this one has 6"
    ):
        train(plain(), given(batch=4), 1, folder=tmp_path)
    with pytest.raises(
        AutoslimError, match=r"it had \['train'\] arms, this one has \['largest', 'smallest', 'r"
    ):
        train(sandwich(), given(), 1, folder=tmp_path)
    train(plain(), given(), 2, folder=tmp_path)
    with pytest.raises(
        AutoslimError, match=r"it had 6 steps, this one has 3 in all\. Give this training another"
    ):
        train(plain(), given(), 1, folder=tmp_path)


def test_batches_that_end_too_soon():
    class Short:
        steps_per_epoch, batch_size = 3, 8

        def dataset(self, epochs, start_epoch=0, start_batch=0):
            return given().epoch.take(2)

    with pytest.raises(AutoslimError, match="The batches ended after step 2 of 3"):
        train(plain(), Short(), 1)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range(label):
    x, y = images(8)
    y[5] = label
    source = GivenBatches(tf.data.Dataset.from_tensor_slices((x, y)).batch(4))
    with pytest.raises(
        AutoslimError, match=f"Label {label} is out of range: .* has 3 outputs, so labels are 0 to 2"
    ):
        train(plain(), source, 1)


def test_partial_batches_are_trained_on():
    x, y = images(11)
    source = GivenBatches(tf.data.Dataset.from_tensor_slices((x, y)).batch(4))
    history = train(sandwich(), source, 2)
    assert len(history) == 2 and np.isfinite(history[-1]["smallest/loss"])


def test_scalars_for_tensorboard(tmp_path):
    step = sandwich()
    history = train(running(step, log_steps=2), given(48), 2, folder=tmp_path)
    folder = str(tmp_path / "training")
    events = event_accumulator.EventAccumulator(folder, size_guidance={event_accumulator.TENSORS: 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert tags == {f"{a}/{m}" for a in step.arms for m in ("loss", "top1")} | {"learning_rate"} | SPEED
    points = {
        tag: [(e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
        for tag in tags
    }
    assert [s for s, _ in points["largest/loss"]] == [2, 4, 6, 8, 10, 12]
    assert points["learning_rate"][0][1] == pytest.approx(0.05)
    assert len(history) == 2


def test_a_finished_training_writes_nothing(tmp_path):
    train(plain(), given(), 1, folder=tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert len(list(tmp_path.glob("checkpoints/*.index"))) == 1  # the end is saved once
    train(plain(), given(), 1, folder=tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == {
        p: t for p, t in before.items() if p.is_file()
    }


def test_the_second_interruption_acts_at_once(tmp_path):
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        train(Stopping(plain(), 2, times=2), given(), 3, folder=tmp_path)
    assert not list(tmp_path.glob("checkpoints/*.index"))
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interruption_is_noted(number):
    before = signal.getsignal(number)
    with deferred_interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested
    assert signal.getsignal(number) is before


def test_in_a_thread_of_a_notebook(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(plain(), given(), 2, folder=tmp_path)))
    thread.start()
    thread.join()
    assert results == [train(plain(), given(), 2)]


def test_public_functions_resume(tmp_path):
    """`fit` and `train_supernet` with a folder, and the default optimizer."""
    model = network()
    history = autoslim.fit(model, given(), epochs=2, folder=tmp_path / "fit")
    again = network(seed=3)
    assert autoslim.fit(again, given(), epochs=2, folder=tmp_path / "fit") == history
    assert bits(again) == bits(model)
    graph = ChannelGraph(network())
    levels = Levels.spaced(graph, 3, divisor=2)
    history = autoslim.train_supernet(graph, levels, given(), epochs=1, arms=3, folder=tmp_path / "supernet")
    assert list(history[0]) == [
        "epoch",
        *(f"{a}/{m}" for a in ("largest", "smallest", "random1") for m in ("loss", "top1")),
    ]


def test_a_teacher_may_be_a_keras_model():
    history = autoslim.fit(network(), given(), epochs=1, teacher=network(seed=1), temperature=2.0)
    assert np.isfinite(history[0]["train/loss"])
    keras.utils.clear_session()


def test_keywords_are_those_of_the_command_line():
    """The same names, the same checks; what could not have an effect is refused."""

    def refusal(**keys):
        with pytest.raises(AutoslimError) as error:
            autoslim.fit(network(), given(), **keys)
        return str(error.value)

    assert refusal(smoothing=0.1).startswith("fit() has no option 'smoothing'. Did you mean label_smoothing?")
    assert refusal(label_smoothing=1) == "label_smoothing=1.0 is out of range: a share in [0, 1)."
    assert refusal(momentum=1) == "optimizer.momentum=1.0 is out of range: a number in [0, 1)."
    assert refusal(precision="float16").startswith("unknown train.precision 'float16'. Did you mean float32?")
    assert refusal(optimizer=sgd(), learning_rate=0.1).startswith(
        "An optimizer was given and also learning_rate,"
    )
    assert refusal(eval_batch_size=8).startswith("fit() has no option 'eval_batch_size'.")


def test_keywords_reach_the_training():
    one, other = network(), network()
    keys = {"epochs": 2, "label_smoothing": 0.1, "learning_rate": 0.05, "weight_decay": 0}
    history = autoslim.fit(one, given(), **keys, schedule="constant", warmup_epochs=0)
    step = plain_step(ChannelGraph(other), sgd(0.05), label_smoothing=0.1)
    assert train(step, given(), 2) == history
    assert bits(one) == bits(other)


def test_another_number_of_replicas_is_reported(tmp_path, monkeypatch, caplog):
    with pytest.raises(KeyboardInterrupt):
        train(Stopping(plain(), 2), given(), 2, folder=tmp_path)
    monkeypatch.setattr("autoslim.training.loop._Training._replicas", 3)
    train(plain(), given(), 2, folder=tmp_path)
    assert (
        "This training began on 1 replicas and continues on 3: each replica's batch statistics" in caplog.text
    )
