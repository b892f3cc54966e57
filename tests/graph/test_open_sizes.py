"""Models for images of any size, whose costs are counted for images of one."""

import keras
import numpy as np
from building import Reversing, conv, finish
from counting import count, peak_memory
from keras import layers as L

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


def test_what_is_not_known_is_said_in_a_line_each():
    x = keras.Input((6, 6, 3))
    graph = ChannelGraph(finish(x, Reversing(name="mine")(conv(4)(x))))
    (line,) = not_known(graph)
    assert line.startswith("Full width, as no rule covers it: mine: a Reversing layer")
