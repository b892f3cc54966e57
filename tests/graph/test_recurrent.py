"""Recurrent layers in training, and masks that layers of one's own hand on or hear."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_graph_invariants import assert_close

from autoslim.graph import ChannelGraph

L = keras.layers
TEXT = np.array([[0, 0, 1, 2], [3, 1, 0, 0], [2, 0, 0, 3]], np.int32)


def text_network(*layers, embedding=None):
    x = keras.Input((4,), dtype="int32")
    y = (embedding or L.Embedding(4, 6, mask_zero=True))(x)
    for layer in layers:
        y = layer(y)
    return keras.Model(x, L.Dense(2)(y))


@pytest.mark.parametrize(
    "layer", [L.LSTM, *(pytest.param(kind, marks=pytest.mark.long) for kind in (L.SimpleRNN, L.GRU))]
)
def test_dropout_is_kerass_own_from_the_same_seed(layer):
    made = layer(5, dropout=0.3, recurrent_dropout=0.2)
    model = text_network(made)
    graph = ChannelGraph(model)

    def again(run):
        made.cell.seed_generator.state.assign([7, 1])
        return run()

    expected = again(lambda: model(TEXT, training=True))
    assert_close(again(lambda: graph.run(TEXT, training=True)), expected)
    run = tf.function(lambda widths: graph.run(TEXT, widths, training=True))
    assert_close(again(lambda: run(tf.constant(graph.full))), expected)
    assert np.max(np.abs(expected - model(TEXT))) > 1e-3


class Reading(L.Layer):
    """Hears the mask that its input carries."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rnn = L.GRU(5, return_sequences=True)

    def build(self, shape):
        self.rnn.build(shape)

    def call(self, x):
        return self.rnn(x)


class Handing(Reading):
    """Takes the mask as an argument, and hands it on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x, mask=None):
        return keras.ops.relu(self.rnn(x, mask=mask))


class Closed(Reading):
    """Can't be looked into."""

    def call(self, x):
        return tf.identity(self.rnn(x))


class Words(L.Layer):
    """Makes a mask, inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = L.Embedding(4, 6, mask_zero=True)

    def build(self, shape):
        self.table.build(shape)

    def call(self, x):
        return self.table(x)


@pytest.mark.parametrize(
    "builder",
    [
        lambda: text_network(Reading(), L.SimpleRNN(3)),
        lambda: text_network(Handing(), L.SimpleRNN(3)),
        lambda: text_network(Closed(), L.SimpleRNN(3)),
        lambda: text_network(L.SimpleRNN(3), embedding=Words()),
        lambda: text_network(keras.Sequential([L.Dense(5), L.SimpleRNN(3)])),
    ],
    ids=["heard", "handed on", "whole", "made inside", "nested"],
)
def test_masks_reach_the_layers_that_keras_gives_them_to(builder):
    keras.utils.set_random_seed(1)
    model = builder()
    graph = ChannelGraph(model)
    assert_close(graph.run(TEXT), model(TEXT))
    widths = graph.uniform(0.5)
    assert_close(graph.materialize(widths)(TEXT), graph.run(TEXT, widths))
    unmasked = np.where(TEXT, TEXT, 1)
    assert np.max(np.abs(model(TEXT) - model(unmasked))) > 1e-4


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((4, 3), [L.Masking(), L.LSTM(6, unroll=True)]),
        ((3, 5, 5, 2), [L.Masking(), L.ConvLSTM2D(6, 3, padding="same"), L.GlobalAveragePooling2D()]),
    ],
    ids=["unrolled", "by position"],
)
def test_masks_where_widths_are_tensors(shape, layers):
    """Keras's own masks need the number of units."""
    graph = ChannelGraph(keras.Sequential([keras.Input(shape), *layers, L.Dense(2)]))
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    x[:, 1], x[0, -1], x[1, 2, :2] = 0, 0, 0
    widths = graph.uniform(0.5)
    run = tf.function(lambda images, widths: graph.run(images, widths))
    assert_close(run(tf.constant(x), tf.constant(widths)), graph.materialize(widths)(x))


def test_a_layer_called_once_with_a_mask_and_once_with_a_state():
    """Neither ties the steps of the mask, as many as there are units, to the units."""
    x, z = keras.Input((4,), dtype="int32"), keras.Input((4, 6))
    shared = L.GRU(4)
    state = L.Dense(4, name="state")(L.Flatten()(z))
    y = L.Add()([shared(L.Embedding(4, 6, mask_zero=True)(x)), shared(z, initial_state=state)])
    model = keras.Model([x, z], L.Dense(2)(y))
    graph = ChannelGraph(model)
    inputs = [TEXT, np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")]
    assert 4 in [group.size for group in graph.slimmable]
    assert_close(graph.run(inputs), model(inputs))
    widths = graph.uniform(0.5)
    assert_close(graph.materialize(widths)(inputs), graph.run(inputs, widths))


def test_a_cell_that_is_stacked_on_itself_stays_as_it_is(tmp_path):
    x, cell = keras.Input((3, 6)), L.GRUCell(6)
    y = L.RNN(L.StackedRNNCells([cell, cell]), name="r")(L.Dense(6)(x))
    model = keras.Model(x, L.Dense(2)(L.Dense(5, name="free")(y)))
    graph = ChannelGraph(model)
    assert "one of its cells stands in two places" in graph.uncovered["r"]
    assert [group.name for group in graph.slimmable] == ["free"]
    sequences = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")
    assert_close(graph.run(sequences), model(sequences))
    widths = graph.uniform(0.5)
    small = graph.materialize(widths)
    assert_close(small(sequences), graph.run(sequences, widths))
    small.save(tmp_path / "small.keras")
    assert_close(keras.saving.load_model(tmp_path / "small.keras")(sequences), small(sequences))
    assert small.count_params() == graph.cost(widths).params


def test_an_output_with_a_mask_is_told(caplog):
    x = keras.Input((4,), dtype="int32")
    with caplog.at_level(logging.WARNING):
        ChannelGraph(keras.Model(x, L.Dense(2)(L.Embedding(4, 6, mask_zero=True)(x)), name="tags"))
    assert "An output of model 'tags' carries a mask of steps." in caplog.text
