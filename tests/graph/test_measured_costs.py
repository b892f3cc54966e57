"""Costs of layers that no rule covers, against sums written out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.budget import Budget


class Block(L.Layer):
    """A layer made of layers."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv = L.Conv2D(filters, 3, padding="same")
        self.norm = L.BatchNormalization()

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build((*shape[:-1], self.conv.filters))

    def call(self, x):
        return ops.relu(self.norm(self.conv(x)))


class ClosedBlock(Block):
    """One that can't be looked into."""

    def call(self, x):
        return tf.nn.relu(super().call(x))


class SelfAttention(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = L.MultiHeadAttention(2, 4)

    def build(self, shape):
        self.attention.build(shape, shape)
        self.shift = self.add_weight(name="shift", shape=(shape[-1],))

    def call(self, x):
        return self.attention(x, x) + self.shift


class MyConv(L.Conv2D):
    pass


class MyTransposed(L.Conv2DTranspose):
    pass


class MySeparable(L.SeparableConv2D):
    pass


class MyTimeDistributed(L.TimeDistributed):
    pass


class MySpectral(L.SpectralNormalization):
    pass


class MyLSTM(L.LSTM):
    pass


class MyGRU(L.GRU):
    pass


class MyConvLSTM(L.ConvLSTM2D):
    pass


class MyEinsumDense(L.EinsumDense):
    pass


class Losing(L.Layer):
    """Adds a loss and moves a variable when it is called."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.add_loss(ops.mean(x))
        self.calls.assign_add(1.0)
        return ops.matmul(x, ops.transpose(x, (0, 2, 1)))


class Tied(L.Layer):
    """Goes back by another layer's kernel."""

    def __init__(self, source, **kwargs):
        super().__init__(**kwargs)
        self.source = source

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.source.kernel))


def hidden(x):
    return tf.ensure_shape(tf.numpy_function(lambda a: a, [x], tf.float32), (None, 6, 8))


def graph_of(layer, shape, dtype=None):
    x = keras.Input(shape, dtype=dtype)
    return ChannelGraph(keras.Model(x, layer(x)))


HEADS = 2 * 4
CASES = {
    "composite": (lambda: ClosedBlock(5), (8, 8, 3), 64 * 9 * 3 * 5),
    "conv subclass": (lambda: MyConv(4, 3), (8, 8, 3), 36 * 9 * 3 * 4),
    "grouped": (lambda: MyConv(4, 3, groups=2), (8, 8, 4), 36 * 9 * 2 * 4),
    "strided": (lambda: MyConv(4, 3, strides=2, padding="same"), (8, 8, 3), 16 * 9 * 3 * 4),
    "transposed": (lambda: MyTransposed(4, 3, strides=2), (8, 8, 3), 64 * 9 * 3 * 4),
    "separable": (lambda: MySeparable(4, 3), (8, 8, 3), 36 * (9 * 3 + 3 * 4)),
    "time distributed": (lambda: MyTimeDistributed(L.Conv2D(16, 3)), (4, 8, 8, 3), 4 * 36 * 27 * 16),
    "dilated": (lambda: MySeparable(4, 3, dilation_rate=4, padding="same"), (10, 10, 3), 100 * (9 * 3 + 12)),
    "dilated in steps": (
        lambda: MyTimeDistributed(L.Conv1D(4, 3, dilation_rate=4, padding="same")),
        (2, 10, 3),
        2 * 10 * 9 * 4,
    ),
    "spectral": (lambda: MySpectral(L.Conv2D(4, 3)), (8, 8, 3), 36 * 27 * 4),
    "einsum": (lambda: MyEinsumDense("abc,cd->abd", (None, 5)), (6, 8), 6 * 8 * 5),
    "attention": (SelfAttention, (6, 8), 4 * 6 * 8 * HEADS + 2 * 6 * 6 * HEADS),
    "lstm": (lambda: MyLSTM(5), (6, 8), 6 * 4 * 5 * (8 + 5)),
    "gru": (lambda: MyGRU(5, return_sequences=True), (6, 8), 6 * 3 * 5 * (8 + 5)),
    "bidirectional": (lambda: L.Bidirectional(L.LSTM(5)), (6, 8), 2 * 6 * 4 * 5 * (8 + 5)),
    "convolutional lstm": (
        lambda: MyConvLSTM(4, 3, padding="same"),
        (3, 8, 8, 2),
        3 * 64 * 9 * 16 * (2 + 4),
    ),
    "embedding": (lambda: L.Embedding(10, 4), (6,), 0),
    "losing": (Losing, (6, 8), 6 * 6 * 8),
}


FOLLOWED = ("conv subclass", "strided", "einsum", "attention", "embedding", "bidirectional")  # by rules


@pytest.mark.parametrize("name", CASES)
def test_a_layer_without_a_rule_is_measured(name):
    build, shape, macs = CASES[name]
    graph = graph_of(build(), shape, "int32" if name == "embedding" else None)
    assert (name in FOLLOWED) == (not graph.uncovered) and not graph.uncounted
    assert graph.cost().flops == macs == sum(row.flops for row in graph.layer_costs())


def test_measuring_leaves_the_layer_as_it_was():
    layer = Losing()
    graph = graph_of(layer, (6, 8))
    before, losses = layer.calls.numpy(), len(graph.model.losses)
    graph.cost()
    assert layer.calls.numpy() == before and len(graph.model.losses) == losses


def test_composite_layers_in_a_network():
    x = keras.Input((16, 16, 3))
    y = Block(64)(Block(64)(L.Conv2D(8, 1)(x)))
    graph = ChannelGraph(keras.Model(x, L.Dense(10)(L.GlobalAveragePooling2D()(y))))
    assert graph.cost().flops == 256 * 3 * 8 + 256 * 9 * (8 * 64 + 64 * 64) + 64 * 10 == 10_623_616
    batch = graph.cost(np.stack([graph.full, graph.full]))
    assert batch.flops.tolist() == [10_623_616] * 2


def test_a_wrapped_layer_in_a_network():
    x = keras.Input((4, 8, 8, 3))
    y = L.GlobalAveragePooling3D()(L.TimeDistributed(L.Conv2D(16, 3))(x))
    graph = ChannelGraph(keras.Model(x, L.Dense(4)(L.Dense(16, name="d")(y))))
    assert graph.cost().flops == 62_528
    assert graph.cost(graph.widths_from({"d": 8})).flops == 62_528 - 16 * 8 - 8 * 4


def test_what_cannot_be_counted_is_named_and_no_flops_budget_goes_over_it(caplog):
    graph = graph_of(L.Lambda(hidden, output_shape=(6, 8), name="mine"), (6, 8))
    why = "it runs code outside of TensorFlow's graph (PyFunc)"
    assert graph.uncounted == {"mine": why}
    assert graph.cost().flops == 0
    assert f"FLOPs of these layers could not be counted: mine ({why})" in caplog.messages
    with pytest.raises(AutoslimError) as error:
        Budget(graph)
    assert str(error.value) == (
        f"FLOPs are limited, but those of these layers could not be counted: mine ({why}). Limit another "
        "resource (slim.resource=params), or count them as 0: slim.allow_uncounted=true."
    )
    Budget(graph, allow_uncounted=True)
    Budget(graph, "memory")


def test_frozen_weights_are_no_trainable_parameters():
    x = keras.Input((8, 8, 3))
    conv = L.Conv2D(8, 3)
    conv.trainable = False
    graph = ChannelGraph(keras.Model(x, L.Dense(10)(L.GlobalAveragePooling2D()(conv(x)))))
    assert graph.cost().params == 90
    assert graph.cost(convention="all").params == 90 + 27 * 8 + 8


def test_a_variable_of_two_layers_counts_once():
    x = keras.Input((6,))
    first = L.Dense(5, name="a")
    graph = ChannelGraph(keras.Model(x, Tied(first)(first(x))))
    assert graph.cost().params == 6 * 5 + 5
    assert graph.cost().flops == 2 * 6 * 5
    assert [row.params for row in graph.layer_costs()] == [35, 0]
