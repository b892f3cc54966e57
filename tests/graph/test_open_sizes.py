"""Models for images of any size, and texts of any length, whose costs are counted for those of one."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from building import Reversing, conv, finish
from counting import count, peak_memory
from keras import layers as L
from keras import ops
from test_graph_invariants import assert_close

from autoslim.graph import ChannelGraph, Segments
from autoslim.reporting.tables import not_known


def any_size(shape=(None, None, 3)):
    x = keras.Input(shape, name="image")
    y = L.ReLU()(L.BatchNormalization(name="norm")(conv(8, name="first")(x)))
    return finish(x, conv(6, strides=2, name="second")(y))


def test_costs_are_those_of_the_same_network_for_images_of_that_size():
    graph = ChannelGraph(any_size(), image_shape=(8, 6, 3))
    fixed = any_size((8, 6, 3))
    widths = graph.widths_from({"first": 3, "second": 5})
    for convention in ("macs", "with_norm", "all"):
        cost = graph.cost(widths, convention)
        small = ChannelGraph(fixed).materialize(widths)
        assert (cost.flops, cost.params) == count(small, convention)
        assert cost.memory == peak_memory(small) == graph.amounts("memory", widths).max()
    assert sum(row.flops for row in graph.layer_costs(widths)) == graph.cost(widths).flops
    assert Segments(graph).macs(widths).sum() == graph.cost(widths).flops


def test_it_runs_and_is_made_for_images_of_any_size():
    graph = ChannelGraph(any_size(), image_shape=(8, 6, 3))
    widths = graph.uniform(0.5)
    small = graph.materialize(widths)
    assert small.input_shape == (None, None, None, 3)
    images = np.random.default_rng(0).normal(size=(2, 11, 9, 3)).astype("float32")
    assert np.allclose(small(images), graph.run(images, widths), atol=1e-5)


def test_a_size_that_the_model_fixes_stays():
    fixed, also = (ChannelGraph(any_size((8, 8, 3)), image_shape=shape) for shape in (None, (4, 4, 3)))
    assert fixed.cost().flops == also.cost().flops


def texts(mask, steps=None):
    x = keras.Input((steps,), dtype="int32")
    return keras.Model(
        x, L.Dense(2)(L.LSTM(6, name="read")(L.Embedding(4, 6, mask_zero=mask, name="words")(x)))
    )


def attended(mask, steps=None):
    x = keras.Input((steps,), dtype="int32")
    y = L.Embedding(4, 6, mask_zero=mask)(x)
    y = L.Bidirectional(L.GRU(4, return_sequences=True))(L.Add()([y, L.MultiHeadAttention(2, 3)(y, y)]))
    return keras.Model(x, L.Dense(2)(L.GlobalAveragePooling1D()(y)))


def sounds(mask, steps=None):
    """Numbers, which become vectors of one channel each."""
    x = keras.Input((steps,))
    y = L.Reshape((-1, 1))(L.Activation("relu")(L.Dropout(0.1)(x)))
    y = L.Concatenate()([y, ops.expand_dims(ops.softmax(x), -1)])
    y = L.Conv1D(5, 3, padding="same")(L.Masking()(y) if mask else y)
    return keras.Model(x, L.Dense(2)(L.GRU(6)(y)))


@pytest.mark.parametrize("mask", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("build", [texts, attended, sounds])
def test_an_unknown_number_of_steps_stays_unknown(build, mask):
    graph, known, fixed = (
        ChannelGraph(build(mask), image_shape=shape) if steps is None else ChannelGraph(build(mask, steps))
        for shape, steps in ((None, None), ((4,), None), (None, 4))
    )
    assert not graph.uncovered and all(group.frozen in (None, "model output") for group in graph.groups)
    assert graph.cost().flops is graph.cost().memory is None
    widths = graph.uniform(0.5)
    expected = fixed.cost(fixed.uniform(0.5))
    assert (known.cost(widths).flops, known.cost(widths).params) == (expected.flops, expected.params)
    assert known.cost(widths).memory == expected.memory
    x = np.array([[0, 0, 1, 2, 3], [3, 1, 0, 0, 1]], np.int32)
    assert_close(graph.run(x), graph.model(x))
    run = tf.function(lambda widths: graph.run(x, widths))
    assert_close(run(tf.constant(widths)), graph.run(x, widths))
    assert_close(graph.run(x, widths, execution="mask"), graph.run(x, widths))
    small = graph.materialize(widths)
    assert small.input_shape == (None, None)
    assert_close(small(x), graph.run(x, widths))


def test_the_costs_of_a_text_are_those_of_its_steps():
    assert ChannelGraph(texts(False), image_shape=(4,)).cost().flops == 4 * 4 * 6 * (6 + 6) + 6 * 2


def test_other_groups_at_a_known_size_are_told(caplog):
    x = keras.Input((None,))
    y = L.Conv1D(4, 1)(L.Reshape((-1, 2))(L.Conv1D(3, 1)(ops.expand_dims(x, -1))))
    with caplog.at_level(logging.WARNING):
        graph = ChannelGraph(keras.Model(x, L.GlobalMaxPooling1D()(y), name="net"), image_shape=(4,))
    assert "Model 'net' has other layers or channel groups for images of (4,)" in caplog.text
    assert graph.cost().flops is None


def test_what_is_not_known_is_said_in_a_line_each():
    x = keras.Input((6, 6, 3))
    graph = ChannelGraph(finish(x, Reversing(name="mine")(conv(4)(x))))
    (line,) = not_known(graph)
    assert line.startswith("Full width, as no rule covers it: mine: a Reversing layer")
