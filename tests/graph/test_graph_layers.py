"""Layers beside convolution and batch norm: precision, measured statistics, what counts."""

import csv
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import IMAGE, chain, conv, finish, graph_of, images_for
from test_graph_invariants import assert_close

from autoslim import LayerRule, register_rule
from autoslim.graph import ChannelGraph, layer_costs_csv

L = keras.layers


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_precision(policy):
    x = y = keras.Input(IMAGE)
    for layer in (
        L.Rescaling([0.5, 0.25, 1.0], dtype=policy),
        L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0], dtype=policy),
        L.SeparableConv2D(6, 3, dtype=policy, name="a"),
        L.LayerNormalization(dtype=policy),
        L.Conv2DTranspose(6, 3, dtype=policy, name="b"),
        L.GroupNormalization(3, dtype=policy),
        conv(8, dtype=policy, name="c"),
        L.RMSNormalization(dtype=policy),
        L.GroupNormalization(1, dtype=policy),
        L.UnitNormalization(dtype=policy),
    ):
        y = layer(y)
    model = finish(x, y)
    graph = ChannelGraph(model)
    assert not graph.uncovered
    images = images_for(model)
    tolerance = {"mixed_float16": 1e-2, "mixed_bfloat16": 1e-1, "float64": 1e-5}[policy]
    assert_close(graph.run(images), model(images), tolerance)
    widths = graph.uniform(0.5)
    sliced = graph.run(images, widths)
    assert_close(sliced, graph.run(images, widths, execution="mask"), tolerance)
    assert_close(sliced, graph.materialize(widths)(images), tolerance)


def test_measured_statistics_outlive_new_weights():
    """A network that is initialised again still knows its data's mean and variance; a saved one too."""
    normalization = L.Normalization(name="n")
    normalization.adapt(np.random.default_rng(0).normal(5.0, 3.0, (50, *IMAGE)))
    graph = ChannelGraph(chain(normalization, conv(4)))
    assert not graph.uncovered
    small = graph.materialize(graph.uniform(0.5), weights=False).get_layer("n")
    np.testing.assert_array_equal(small.mean, normalization.mean)
    np.testing.assert_array_equal(small.variance, normalization.variance)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saves with NumPy 2
@pytest.mark.parametrize("name", ["measured_statistics", "split_halves", "shape_operations", "masked_text"])
def test_small_models_are_saved_and_loaded(name, tmp_path):
    graph = graph_of(name)
    small = graph.materialize(graph.uniform(0.5))
    small.save(tmp_path / "small.keras")
    images = images_for(small)
    assert_close(keras.saving.load_model(tmp_path / "small.keras")(images), small(images))


def test_a_flat_network_with_weights_of_layers_own_is_slimmed_again():
    graph = graph_of("weights_of_layers_own")
    flat = graph.materialize(graph.uniform(0.75))
    again = ChannelGraph(flat)
    assert not again.uncovered and len(again.slimmable) == len(graph.slimmable)
    assert again.cost() == graph.cost(graph.uniform(0.75))
    images, widths = images_for(flat), again.uniform(0.5)
    assert_close(again.materialize(widths)(images), again.run(images, widths))


def test_layer_norm_over_masked_channels_uses_the_active_ones():
    """By hand: the first two of four channels."""
    x = keras.Input((4,))
    dense = L.Dense(4, name="d", use_bias=False)
    graph = ChannelGraph(keras.Model(x, L.Dense(3, name="out")(L.LayerNormalization(epsilon=1e-6)(dense(x)))))
    images = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    active = images @ np.asarray(dense.kernel)[:, :2]
    normal = (active - active.mean(1, keepdims=True)) / np.sqrt(active.var(1, keepdims=True) + 1e-6)
    expected = normal @ np.asarray(graph.model.get_layer("out").kernel)[:2]
    for mode in ("slice", "mask"):
        assert_close(graph.run(images, graph.widths_from({"d": 2}), execution=mode), expected)


def test_conventions_by_hand():
    """3x3 convolution 3 to 4 with bias and ReLU, norm, softplus, on 6x6; then a dense layer of 4."""
    graph = ChannelGraph(
        chain(conv(4, activation="relu"), L.GroupNormalization(2), L.Activation("softplus"), L.ReLU())
    )
    entries = 6 * 6 * 4
    products = entries * 27 + 4 * 4
    assert graph.cost().flops == products
    assert graph.cost(convention="with_norm").flops == products + 4 * entries
    assert graph.cost(convention="all").flops == products + (4 + 1 + 1 + 1 + 1) * entries + 4


def test_layer_table_as_csv():
    graph = graph_of("residual")
    rows = graph.layer_costs(graph.uniform(0.5))
    *lines, total = csv.DictReader(io.StringIO(layer_costs_csv(rows)))
    assert [line["layer"] for line in lines] == [node.name for node in graph.trace.nodes]
    stem = lines[0]
    assert (stem["kind"], stem["shape"], stem["groups"]) == ("Conv2D", "6x6x4", "stem")
    cost = graph.cost(graph.uniform(0.5))
    assert (int(total["flops"]), int(total["params"])) == (cost.flops, cost.params)


def test_a_layer_is_known_once_its_rule_is_registered(caplog):
    class Doubling(L.Layer):
        def call(self, x):
            return tf.add(x, x)

    model = chain(conv(6, name="c"), Doubling(name="mine"), conv(5))
    assert list(ChannelGraph(model).uncovered) == ["mine"]
    assert len(caplog.records) == 1
    register_rule(Doubling, LayerRule())
    graph = ChannelGraph(model)
    assert not graph.uncovered
    images = images_for(model)
    widths = graph.widths_from({"c": 3})
    assert_close(graph.run(images, widths), graph.run(images, widths, execution="mask"))
    assert len(caplog.records) == 1
