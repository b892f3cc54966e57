"""Schedules and weight decay."""

import math

import keras
import numpy as np
import pytest
from small import network, text_network

from autoslim.errors import AutoslimError
from autoslim.training.optimizers import learning_rate, make_optimizer, make_schedule


def rates(name, steps, warmup=0, rate=0.4):
    schedule = make_schedule(name, rate, steps, warmup)
    return [float(schedule(k)) if callable(schedule) else schedule for k in range(steps + 1)]


def expected(name, k, steps, warmup, rate=0.4):
    if k < warmup:
        return rate * k / warmup
    k, after = k - warmup, steps - warmup
    if name == "cosine":
        return rate * (1 + math.cos(math.pi * k / after)) / 2
    if name == "linear":
        return rate * (1 - k / after)
    if name == "step":
        return rate * 0.2 ** sum(k >= round(share * after) for share in (0.3, 0.6, 0.8))
    return rate


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step"])
@pytest.mark.parametrize("warmup", [0, 5])
def test_every_rate(name, warmup):
    steps = 25
    wanted = [expected(name, k, steps, warmup) for k in range(steps + 1)]
    assert rates(name, steps, warmup) == pytest.approx(wanted, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step"])
def test_short_trainings_and_long_warmups(name):
    for steps, warmup in [(0, 0), (1, 0), (2, 0), (3, 3), (2, 5)]:
        assert all(np.isfinite(rates(name, steps, warmup)))


def test_warmup_round_trip():
    schedule = make_schedule("step", 0.4, 25, 5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert [float(again(k)) for k in range(25)] == [float(schedule(k)) for k in range(25)]


def test_learning_rate_of_the_next_step():
    model = network()
    optimizer = make_optimizer(model, schedule=make_schedule("linear", 0.4, 4))
    optimizer.build(model.trainable_variables)
    seen = []
    for _ in range(3):
        seen.append(learning_rate(optimizer))
        optimizer.apply([np.zeros(v.shape, np.float32) for v in model.trainable_variables])
    assert seen == pytest.approx([0.4, 0.3, 0.2])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_spares_gammas_betas_and_biases(name):
    model = network()
    for v in model.trainable_variables:
        v.assign(np.ones(v.shape))
    optimizer = make_optimizer(model, learning_rate=0.1, name=name, weight_decay=0.5)
    optimizer.build(model.trainable_variables)
    optimizer.apply([np.zeros(v.shape, np.float32) for v in model.trainable_variables])
    moved = {v.path.split("/")[-1]: float(v.numpy().mean()) for v in model.trainable_variables}
    assert moved == pytest.approx({"kernel": 0.95, "gamma": 1.0, "beta": 1.0, "bias": 1.0})


def test_weight_decay_spares_biases_of_several_dimensions():
    model = text_network()
    (bias,) = [v for v in model.trainable_variables if v.path == "gru/gru_cell/bias"]
    assert len(bias.shape) == 2
    bias.assign(np.ones(bias.shape))
    optimizer = make_optimizer(model, learning_rate=0.1, weight_decay=0.5)
    optimizer.build(model.trainable_variables)
    optimizer.apply([np.zeros(v.shape, np.float32) for v in model.trainable_variables])
    assert (bias.numpy() == 1.0).all()


def test_clipping_is_by_the_global_norm():
    model = network()
    optimizer = make_optimizer(
        model, learning_rate=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, clipnorm=1.0
    )
    optimizer.build(model.trainable_variables)
    before = [v.numpy() for v in model.trainable_variables]
    optimizer.apply([np.ones(v.shape, np.float32) for v in model.trainable_variables])
    moved = [a - v.numpy() for a, v in zip(before, model.trainable_variables, strict=True)]
    assert math.sqrt(sum(float((m**2).sum()) for m in moved)) == pytest.approx(1.0, rel=1e-3)


def test_unknown_names():
    with pytest.raises(AutoslimError, match="schedule='cubic': expected constant, cosine, linear or step."):
        make_schedule("cubic", 0.1, 10)
    with pytest.raises(AutoslimError, match=r"unknown optimizer.name 'lion'"):
        make_optimizer(network(), learning_rate=0.1, weight_decay=0.0, name="lion")
