"""Layers that only do something in training: passed through, or written as dropout of whole images."""

import keras
import numpy as np
import pytest
from building import finish
from keras import layers as L
from keras import ops
from test_inside import DropPath, close, free, images, network

from autoslim.graph import ChannelGraph


def test_noise_that_is_nothing_but_in_training_passes_channels_on(caplog):
    graph = ChannelGraph(network(DropPath(name="path")))
    assert free(graph) == {"first": 6} and not caplog.messages
    mixed = ChannelGraph(network(DropPath(mixed=True, name="path")))
    assert free(mixed) == {}


class ScaledDropPath(DropPath):
    def call(self, x, training=None):
        return super().call(x, training) / (1 - self.rate) if training else x


class AllOrNone(ScaledDropPath):
    """All images or none."""

    def call(self, x, training=None):
        kept = keras.random.uniform((), seed=self.seed) > self.rate
        return x * ops.cast(kept, x.dtype) / (1 - self.rate) if training else x


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5])
def test_dropping_whole_images_is_written_as_dropout_which_loads_alone(rate, tmp_path):
    graph = ChannelGraph(network(ScaledDropPath(rate, name="path")))
    small = graph.materialize(graph.uniform(0.5))
    layer = small.get_layer("path")
    assert type(layer) is L.Dropout and layer.rate == pytest.approx(rate, abs=1e-5)
    x = np.ones((2000, 2, 2, 3), "float32")
    y = np.asarray(layer(x, training=True))
    assert np.unique(y).tolist() == pytest.approx([0.0, 1 / (1 - rate)] if rate else [1.0], rel=1e-4)
    assert (y == y[:, :1, :1, :1]).all() and abs(y.mean() - 1) < 0.15
    small.save(tmp_path / "small.keras")
    assert close(keras.saving.load_model(tmp_path / "small.keras")(images()), small(images()))


class Pixels(ScaledDropPath):
    """Drops positions, in all channels: pixels of images, words of texts."""

    def call(self, x, training=None):
        noise_shape = (*ops.shape(x)[:-1], 1)
        return keras.random.dropout(x, self.rate, noise_shape, seed=self.seed) if training else x


class Blocks(ScaledDropPath):
    """Drops squares of 7 x 7 pixels, in all channels, or all of a smaller image."""

    def call(self, x, training=None):
        if not training:
            return x
        seeds = keras.random.uniform((*ops.shape(x)[:-1], 1), seed=self.seed) < self.rate / 49
        dropped = ops.max_pool(ops.cast(seeds, x.dtype), 7, 1, padding="same")
        return x * (1 - dropped) / (1 - self.rate)


class BySize(ScaledDropPath):
    """Drops whole images, large ones more seldom."""

    def call(self, x, training=None):
        rate = 1 / x.shape[-2]
        kept = keras.random.uniform((ops.shape(x)[0], 1, 1, 1), seed=self.seed) > rate
        return x * ops.cast(kept, x.dtype) / (1 - rate) if training else x


@pytest.mark.parametrize(
    "kind", [DropPath, AllOrNone, Pixels, Blocks, BySize], ids=lambda kind: kind.__name__
)
def test_other_noise_keeps_its_class(kind):
    graph = ChannelGraph(network(kind(0.3, name="path")))
    assert type(graph.materialize().get_layer("path")) is kind


def test_words_that_are_dropped_are_no_dropped_texts():
    x = keras.Input((5, 4))
    y = Pixels(0.3, name="words")(L.Dense(6)(x))
    graph = ChannelGraph(finish(x, y))
    assert free(graph) and type(graph.materialize().get_layer("words")) is Pixels
